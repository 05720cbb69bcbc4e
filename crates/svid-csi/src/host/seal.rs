//! Sealing: the immutable flag of an inode (FS_IOC_SETFLAGS, `chattr +i`).
//!
//! A sealed file cannot be written, renamed, linked, unlinked or given away, and a sealed folder gets and loses no name,
//! whatever mount it is reached through. Only CAP_LINUX_IMMUTABLE takes a seal away, which containers do not have, also
//! those with CAP_SYS_ADMIN, which can make a read-only mount writable. tmpfs has the flag since Linux 6.0.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

/// Whether a seal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// It does.
    Sealed,
    /// This kernel, file system or user namespace has no seals.
    Unsupported,
}

/// Seals a file or folder, which must be open and on a writable mount.
///
/// # Errors
/// The flag could not be set, for another reason than that there is no such flag here.
pub fn seal(fd: impl AsFd) -> io::Result<Sealing> {
    match set(&fd, true) {
        Ok(()) => Ok(Sealing::Sealed),
        Err(Errno::PERM | Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(Sealing::Unsupported),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes the seal, if there is one.
///
/// # Errors
/// The flag is set and could not be taken away.
pub fn unseal(fd: impl AsFd) -> io::Result<()> {
    if is_sealed(&fd)? { Ok(set(&fd, false)?) } else { Ok(()) }
}

/// Whether it is sealed. Without such a flag, nothing is.
///
/// # Errors
/// The flag could not be read.
pub fn is_sealed(fd: impl AsFd) -> io::Result<bool> {
    match ioctl_getflags(&fd) {
        Ok(flags) => Ok(flags.contains(IFlags::IMMUTABLE)),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn set(fd: impl AsFd, sealed: bool) -> Result<(), Errno> {
    let mut flags = ioctl_getflags(&fd)?;
    flags.set(IFlags::IMMUTABLE, sealed);
    ioctl_setflags(&fd, flags)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn what_is_sealed_stays_as_it_is_until_it_is_unsealed() {
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
