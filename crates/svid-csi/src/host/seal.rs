//! Sealing: the immutable flag of an inode (FS_IOC_SETFLAGS, `chattr +i`).
//!
//! A sealed file cannot be written, renamed, linked, unlinked or chowned, and a sealed folder neither gains nor loses
//! names, through any mount. Removing a seal needs CAP_LINUX_IMMUTABLE, which containers do not have, not even those
//! with CAP_SYS_ADMIN, which can make a read-only mount writable. tmpfs has the flag since Linux 6.0.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

/// The result of sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// It does.
    Sealed,
    /// This kernel, file system or user namespace does not support seals.
    Unsupported,
}

/// Seals a file or folder, which must be open and on a writable mount.
///
/// # Errors
/// If the flag cannot be set, although it is supported.
pub fn seal(fd: impl AsFd) -> io::Result<Sealing> {
    match set(&fd, true) {
        Ok(()) => Ok(Sealing::Sealed),
        Err(Errno::PERM | Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(Sealing::Unsupported),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes the seal, if it exists.
///
/// # Errors
/// If the flag is set and cannot be removed.
pub fn unseal(fd: impl AsFd) -> io::Result<()> {
    if is_sealed(&fd)? { Ok(set(&fd, false)?) } else { Ok(()) }
}

/// Whether it is sealed. Without support for the flag, nothing is.
///
/// # Errors
/// If the flag cannot be read.
pub fn is_sealed(fd: impl AsFd) -> io::Result<bool> {
    match ioctl_getflags(&fd) {
        Ok(flags) => Ok(flags.contains(IFlags::IMMUTABLE)),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn set(fd: impl AsFd, sealed: bool) -> Result<(), Errno> {
    let mut flags = ioctl_getflags(&fd)?;
    // Setting it again would cause an event (inotify(7), IN_ATTRIB) on newer kernels.
    if flags.contains(IFlags::IMMUTABLE) == sealed {
        return Ok(());
    }
    flags.set(IFlags::IMMUTABLE, sealed);
    ioctl_setflags(&fd, flags)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn a_sealed_file_cannot_change_until_it_is_unsealed() {
        svid_csi_testkit::in_mount_ns(|| {
            let dir = tempfile::tempdir().unwrap();
            rustix::mount::mount("t", dir.path(), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
            let (folder, file) = (dir.path().join("folder"), dir.path().join("folder/file"));
            fs::create_dir(&folder).unwrap();
            fs::write(&file, "as it is").unwrap();
            let opened = [File::open(&file).unwrap(), File::open(&folder).unwrap()];
            if opened.iter().any(|one| seal(one).unwrap() == Sealing::Unsupported) {
                return;
            }
            assert!(fs::write(&file, "other").is_err() && fs::remove_file(&file).is_err());
            assert!(
                fs::write(folder.join("new"), "").is_err() && fs::rename(&folder, dir.path().join("moved")).is_err()
            );
            for one in &opened {
                assert!(is_sealed(one).unwrap());
                unseal(one).unwrap();
                unseal(one).unwrap();
                assert!(!is_sealed(one).unwrap());
            }
            assert_eq!(fs::read_to_string(&file).unwrap(), "as it is");
            fs::remove_dir_all(&folder).unwrap();
            drop(opened);
            rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
        });
    }
}
