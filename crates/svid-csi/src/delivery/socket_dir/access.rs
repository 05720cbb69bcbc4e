//! The access rights of a socket or folder.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, Gid, Stat, StatxFlags, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// The extended attribute of a POSIX ACL (acl(5)), which can deny access to users to whom the mode grants it.
const ACL: &CStr = c"system.posix_acl_access";

/// The kernel's limit of an extended attribute, in bytes (xattr(7)).
const MOST_ATTRIBUTE: usize = 64 << 10;

/// The access rights of a socket or folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Access {
    mode: u32,
    user: u32,
    group: u32,
    /// As the kernel stores it; empty if there is none.
    acl: Vec<u8>,
}

impl Access {
    pub(super) fn of(file: &OwnedFd, stat: &Stat) -> io::Result<Self> {
        Ok(Access { mode: stat.st_mode & 0o7777, user: stat.st_uid, group: stat.st_gid, acl: acl(file)? })
    }

    /// Those of a folder of ours that admits the same users as the folder with these access rights.
    pub(super) fn of_ours(self) -> Self {
        Access { mode: self.mode & 0o777, user: rustix::process::geteuid().as_raw(), ..self }
    }

    pub(super) fn restore(&self, file: &OwnedFd) -> io::Result<()> {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        rustix::fs::chownat(file, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
        let path = by_descriptor(file);
        // Before the mode, because it changes that, too.
        if acl(file)? != self.acl {
            if self.acl.is_empty() {
                rustix::fs::removexattr(&path, ACL)?;
            } else {
                rustix::fs::setxattr(&path, ACL, &self.acl, XattrFlags::empty())?;
            }
        }
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode))
    }
}

fn acl(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let path = by_descriptor(file);
    let read = |most: usize| {
        let mut acl = vec![0; most];
        let length = match rustix::fs::getxattr(&path, ACL, &mut acl[..]) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => 0,
            read => read?,
        };
        acl.truncate(length);
        Ok(acl)
    };
    match read(1024) {
        Err(Errno::RANGE) => Ok(read(MOST_ATTRIBUTE)?),
        read => Ok(read?),
    }
}

pub(super) fn by_descriptor(file: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

/// When a file was created, in nanoseconds, on file systems that record it: inode numbers are reused.
pub(super) fn born(file: &OwnedFd) -> io::Result<Option<i128>> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME)?;
    let is_known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let (seconds, nanoseconds) = (i128::from(stat.stx_btime.tv_sec), i128::from(stat.stx_btime.tv_nsec));
    Ok(is_known.then_some(seconds * 1_000_000_000 + nanoseconds))
}
