//! The node's kernel, as far as it matters to the driver.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use svid_csi_core::findings::facts::{DataSeen, DriverFacts, Look};
use svid_csi_core::redact::Keep;

use super::archive::Contents;
use super::process;
use crate::doctor::paths::Paths;

const SETTINGS: [&str; 8] = [
    "/proc/sys/kernel/osrelease",
    "/proc/sys/fs/inotify/max_user_instances",
    "/proc/sys/fs/inotify/max_user_watches",
    "/proc/sys/fs/mount-max",
    "/proc/sys/fs/file-nr",
    "/proc/sys/user/max_inotify_instances",
    "/proc/sys/user/max_mnt_namespaces",
    "/proc/loadavg",
];
const MEMORY: [&str; 6] =
    ["memory.current", "memory.peak", "memory.max", "memory.high", "memory.events", "memory.swap.current"];

pub(super) fn release() -> String {
    value("/proc/sys/kernel/osrelease")
}

pub(super) fn host_name() -> String {
    value("/proc/sys/kernel/hostname")
}

fn value(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|error| format!("cannot be read: {error}"), |text| text.trim().to_owned())
}

pub(super) fn add(contents: &mut Contents, driver: Option<&DriverFacts>, paths: &Paths, data: Option<&Look<DataSeen>>) {
    contents.add("kernel.txt", "settings and limits of the kernel", &kernel(paths.pid, data), Keep::Start);
    let (Some(driver), Some(pid)) = (driver, paths.pid) else {
        contents.leave_out("mounts.txt", "only the driver knows which mounts are its own");
        return;
    };
    let mounts = process::read(pid, "mountinfo").map(|mounts| of_driver(&mounts, driver));
    contents.add_found("mounts.txt", "the driver's own mounts, as /proc/PID/mountinfo shows them", mounts);
}

fn kernel(pid: Option<i32>, data: Option<&Look<DataSeen>>) -> String {
    let mut text = String::new();
    for path in SETTINGS {
        let _ = writeln!(text, "{path}: {}", value(path));
    }
    let swaps = fs::read_to_string("/proc/swaps").map_or(0, |swaps| swaps.lines().skip(1).count());
    let _ = writeln!(text, "swap devices: {swaps}");
    let modules = value("/sys/kernel/security/lsm");
    let _ = writeln!(text, "security modules: {modules}");
    let _ = match data {
        Some(Ok(data)) => writeln!(text, "tmpfs of the volumes: {data:?}"),
        Some(Err(why)) => writeln!(text, "tmpfs of the volumes: {why}"),
        None => writeln!(text, "tmpfs of the volumes: none, or the driver does not say where"),
    };
    let group = pid.and_then(|pid| process::read(pid, "cgroup").ok());
    let folder = group.as_deref().and_then(|groups| groups.lines().find_map(|line| line.strip_prefix("0::")));
    let files = folder.map(|folder| memory(&Path::new("/sys/fs/cgroup").join(folder.trim_start_matches('/'))));
    match files.filter(|files| !files.is_empty()) {
        Some(files) => text + &files,
        None => text + "memory of the driver's cgroup: not known\n",
    }
}

fn memory(folder: &Path) -> String {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let files = MEMORY.into_iter().filter_map(|file| Some((file, read(file)?)));
    files.map(|(file, value)| format!("{file}: {}\n", value.trim().replace('\n', ", "))).collect()
}

/// The mounts of the volumes, of the data root, and of the folders with the driver's sockets.
fn of_driver(mounts: &str, driver: &DriverFacts) -> String {
    let targets: BTreeSet<&str> = driver.volumes.values().map(|volume| volume.target.as_str()).collect();
    let agent = driver.agent.iter().flat_map(|agent| [Some(agent.path.as_str()), agent.stable.as_deref()]).flatten();
    let sockets = driver.names.iter().flat_map(|name| [Some(&name.csi_socket), name.registration_socket.as_ref()]);
    let sockets = sockets.flatten().filter_map(|socket| Path::new(socket).parent());
    let folders: Vec<&Path> =
        driver.data_root.iter().map(Path::new).chain(agent.map(Path::new)).chain(sockets).collect();
    let pods = Path::new(&driver.pods_dir);
    let is_own = |point: &str| {
        let path = Path::new(point);
        targets.contains(point)
            || folders
                .iter()
                .any(|folder| path.starts_with(folder) || (path != Path::new("/") && folder.starts_with(path)))
            || pods.starts_with(path)
    };
    let lines = mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(&is_own));
    lines.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use svid_csi_core::findings::facts::VolumeFacts;

    use super::*;

    #[test]
    fn only_own_mounts_are_shown() {
        let mut driver =
            DriverFacts { data_root: Some("/d".to_owned()), pods_dir: "/k/pods".to_owned(), ..Default::default() };
        let volume = VolumeFacts { target: "/k/pods/u/mount".to_owned(), ..Default::default() };
        driver.volumes.insert("csi-1".to_owned(), volume);
        let line = |point: &str| format!("1 2 0:1 / {point} rw - tmpfs none rw\n");
        let own = ["/", "/k", "/d/data", "/k/pods/u/mount"].map(line).concat();
        let others = ["/home", "/k/pods/u/other", "/data"].map(line).concat();
        assert_eq!(of_driver(&(own.clone() + &others), &driver), own);
    }
}
