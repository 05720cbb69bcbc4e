//! The demo's own mount namespace, with a folder that disappears with it.

use std::ffi::CStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{getegid, geteuid};

use super::report::StepResult;

/// A folder that every system has; its contents are hidden only from the demo.
const WORK: &str = "/tmp";

/// The size of the work folder, so that a failing demo does not exhaust the machine's memory.
const WORK_OPTIONS: &CStr = c"mode=0755,size=64m";

/// A group that no file has by chance.
pub(super) const FS_GROUP: u32 = 2000;

/// The settings by which kernels and distributions forbid user namespaces, and the value that forbids them.
const SETTINGS: [(&str, &str); 3] = [
    ("kernel/unprivileged_userns_clone", "0"),
    ("user/max_user_namespaces", "0"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
];

/// The demo's workplace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workplace {
    /// Mounts an empty tmpfs, shared so that bind mounts propagate.
    pub(super) work: &'static Path,
    /// Whether files can belong to [`FS_GROUP`] in it.
    pub(super) has_fs_group: bool,
}

/// Enters the namespaces and mounts the work folder.
pub(super) fn enter() -> Result<(StepResult, Workplace)> {
    // Root in a container may lack the capability to mount, but can use a user namespace like any user.
    let as_root = geteuid().is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok();
    let entered = if as_root { Ok(()) } else { enter_user_namespace() };
    entered.and_then(|()| mount_work()).with_context(hint)?;
    let kind = if as_root { "a mount namespace (as root)" } else { "a user and a mount namespace" };
    let result = StepResult::new(format!("in {kind}, work folder {WORK}")).with("root", as_root).with("work", WORK);
    Ok((result, Workplace { work: Path::new(WORK), has_fs_group: group_exists(FS_GROUP)? }))
}

fn enter_user_namespace() -> Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).context("unshare")?;
    // The kernel accepts a map of groups from an unprivileged process only after setgroups(2) is disabled.
    write("setgroups", "deny")?;
    write("uid_map", &format!("0 {uid} 1"))?;
    write("gid_map", &format!("0 {gid} 1"))
}

fn write(name: &str, content: &str) -> Result<()> {
    let path = Path::new("/proc/self").join(name);
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, content.as_bytes()))
        .with_context(|| path.display().to_string())
}

/// Whether the user namespace maps the group. Each line of the map has the first group inside, its number outside, and
/// the length of the range (user_namespaces(7)).
fn group_exists(group: u32) -> Result<bool> {
    let map = fs::read_to_string("/proc/self/gid_map").context("/proc/self/gid_map")?;
    Ok(map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        matches!(numbers[..], [first, _, count] if (first..first.saturating_add(count)).contains(&group))
    }))
}

fn mount_work() -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("making mounts private")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("svid-csi-demo", WORK, "tmpfs", flags, WORK_OPTIONS).with_context(|| format!("mounting {WORK}"))?;
    mount_change(WORK, MountPropagationFlags::SHARED).with_context(|| format!("sharing {WORK}"))
}

fn hint() -> String {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
    let forbids = |(name, value): &&(&str, &str)| read(name).trim() == *value;
    match SETTINGS.iter().find(forbids) {
        Some((name, value)) => {
            let (setting, wanted) = (name.replace('/', "."), if *value == "0" { "above 0" } else { "0" });
            format!("no user namespace: set sysctl {setting} to {wanted}, or run this with sudo")
        }
        None => "no user namespace: a seccomp profile or container runtime forbids it; run this with sudo, or in a \
                 privileged container"
            .to_owned(),
    }
}
