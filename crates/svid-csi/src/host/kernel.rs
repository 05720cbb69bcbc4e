//! What the driver cannot do without, tried without changing anything.

use std::fs;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::mount;
use crate::telemetry::report;

/// Each requirement, and whether the kernel has it.
pub(crate) fn features() -> Vec<(&'static str, Result<bool, String>)> {
    vec![
        ("openat2(2)", is_known(openat2())),
        ("open_tree(2)", is_known(open_tree())),
        ("move_mount(2)", is_known(move_mount())),
        ("mount roots in statx(2)", mount_roots()),
        ("tmpfs", has_tmpfs()),
    ]
}

fn openat2() -> Result<(), Errno> {
    rustix::fs::openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS).map(drop)
}

fn open_tree() -> Result<(), Errno> {
    rustix::mount::open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC).map(drop)
}

/// Of a mount that does not exist.
fn move_mount() -> Result<(), Errno> {
    let none = "/proc/self/none";
    match rustix::mount::move_mount(CWD, none, CWD, none, MoveMountFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        moved => moved,
    }
}

/// A call that is not permitted may or may not exist: filters of system calls answer so too.
fn is_known(tried: Result<(), Errno>) -> Result<bool, String> {
    match tried {
        Ok(()) => Ok(true),
        Err(Errno::NOSYS) => Ok(false),
        Err(errno) => Err(format!("it cannot be tried by this process: {errno}")),
    }
}

fn mount_roots() -> Result<bool, String> {
    mount::reports_mount_roots().map_err(|error| report::chain(&error))
}

fn has_tmpfs() -> Result<bool, String> {
    let known = fs::read_to_string("/proc/filesystems").map_err(|error| format!("/proc/filesystems: {error}"))?;
    Ok(known.lines().any(|line| line.split_whitespace().last() == Some("tmpfs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_refused_is_not_called_missing() {
        assert_eq!(is_known(Ok(())), Ok(true));
        assert_eq!(is_known(Err(Errno::NOSYS)), Ok(false));
        assert!(is_known(Err(Errno::PERM)).is_err());
    }

    #[test]
    fn this_kernel_has_what_the_tests_need() {
        for (feature, is_there) in features() {
            assert_ne!(is_there, Ok(false), "{feature}");
        }
    }
}
