//! Attacks with mounts, and on the file system of the volume.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_move, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::pivot_root;

use crate::report::Report;

/// In a mount namespace of its own if that is possible, because some attacks take the volume from this container.
pub(crate) fn attack(volume: &Path, report: &Report) -> Result<()> {
    report.attempt("unshare", || unshare(CloneFlags::CLONE_NEWNS));
    let own = PathBuf::from("/tmp/own");
    fs::create_dir_all(&own)?;
    fs::write(own.join("file"), "hostile")?;
    report.attempt("share the mount", || mount_change(volume, MountPropagationFlags::SHARED));
    report
        .attempt("share all mounts", || mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC));
    over(volume, &own, report);
    if volume.join("..data").exists() {
        over(&volume.join("..data"), &own, report);
    }
    for entry in fs::read_dir(volume)?.flatten().map(|entry| entry.path()).filter(|path| !path.is_dir()) {
        let bound = report.attempt(format!("bind over {}", entry.display()), || mount_bind(own.join("file"), &entry));
        bound.map(|()| unmount(&entry, UnmountFlags::DETACH));
    }
    clone(volume, report);
    let moved = PathBuf::from("/tmp/moved-mount");
    fs::create_dir_all(&moved)?;
    // Moving is refused below a shared mount.
    let _ = mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC);
    if report.attempt("move the mount", || mount_move(volume, &moved)).is_some() {
        report.attempt("remount what was moved", || mount_remount(&moved, MountFlags::BIND, ""));
        mount_move(&moved, volume)?;
    }
    let bound = mount_bind(volume, &moved);
    report.attempt("unmount", || unmount(volume, UnmountFlags::DETACH));
    report.attempt("make it the root", || bound.and_then(|()| pivot_root(&moved, &moved)));
    Ok(())
}

/// Mounts at a folder.
fn over(folder: &Path, own: &Path, report: &Report) {
    let shown = folder.display();
    if report.attempt(format!("bind over {shown}"), || mount_bind(own, folder)).is_some() {
        change_and_unmount(folder);
    }
    let tmpfs = || mount("own", folder, "tmpfs", MountFlags::empty(), None);
    if report.attempt(format!("mount a tmpfs over {shown}"), tmpfs).is_some() {
        change_and_unmount(folder);
    }
}

/// Others would see the change if the mount reached them.
fn change_and_unmount(folder: &Path) {
    let _ = fs::write(folder.join("tls.key"), "hostile");
    let _ = unmount(folder, UnmountFlags::DETACH);
}

/// A second mount of the volume, whose flags are its own.
fn clone(volume: &Path, report: &Report) {
    let at = Path::new("/tmp/clone");
    let _ = fs::create_dir_all(at);
    let cloned = report.attempt("clone the mount", || -> Result<OwnedFd, Errno> {
        let tree = open_tree(CWD, volume, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        move_mount(&tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(tree)
    });
    if cloned.is_some() {
        report.attempt("make the clone writable", || mount_remount(at, MountFlags::BIND, ""));
        report.about("content").attempt("write to the clone", || fs::write(at.join("new"), "hostile"));
        let _ = unmount(at, UnmountFlags::DETACH);
    }
}

/// Leaves no room on the file system, then makes it read-only.
pub(crate) fn restrict(volume: &Path, report: &Report) -> Result<()> {
    let stat = rustix::fs::statvfs(volume)?;
    let bytes = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
    let inodes = stat.f_files - stat.f_ffree;
    let options = |options: String| {
        let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        mount_remount(volume, MountFlags::empty(), &*options)
    };
    report.attempt("limit the bytes", || options(format!("size={bytes}")));
    report.attempt("limit the inodes", || options(format!("nr_inodes={inodes}")));
    report.attempt("make it read-only", || mount_remount(volume, MountFlags::RDONLY, ""));
    Ok(())
}
