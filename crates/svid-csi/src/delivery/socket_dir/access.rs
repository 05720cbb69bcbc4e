//! The access rights of the agent's sockets, which only the agent may change.
//!
//! A seal does not protect them: a socket cannot be opened, and so cannot be sealed. They are therefore remembered, also
//! across restarts of the driver, and restored after a change by anybody else.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, Gid, Stat, StatxFlags, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use svid_csi_core::state::FileId;
use tracing::error;

use crate::host::fsx::{self, FsError};
use crate::telemetry::report;
use crate::telemetry::reported::Reported;

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

/// The access rights that the agent has given its sockets.
#[derive(Debug, Default)]
pub(super) struct Granted {
    file: Option<PathBuf>,
    sockets: HashMap<FileId, Grant>,
    is_saved: bool,
    /// Why they cannot be saved.
    trouble: Reported,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Grant {
    socket: FileId,
    born: Option<i128>,
    access: Access,
}

impl Granted {
    /// Those that an earlier run has saved in `file`.
    pub(super) fn load(file: Option<PathBuf>) -> Self {
        let sockets = file.as_deref().map_or(Ok(Vec::new()), read).unwrap_or_else(|error| {
            error!(
                error = report::chain(&error),
                "it is not known which access rights the agent gave its sockets: those that they have now are taken for them"
            );
            Vec::new()
        });
        let sockets = sockets.into_iter().map(|grant| (grant.socket, grant)).collect();
        Granted { file, sockets, is_saved: true, trouble: Reported::default() }
    }

    /// The access rights of a socket, if they are known.
    pub(super) fn get(&self, socket: FileId, born: Option<i128>) -> Option<&Access> {
        self.sockets.get(&socket).filter(|grant| grant.born == born).map(|grant| &grant.access)
    }

    /// Whether it is a socket of the agent.
    pub(super) fn knows(&self, socket: FileId) -> bool {
        self.sockets.contains_key(&socket)
    }

    pub(super) fn set(&mut self, socket: FileId, born: Option<i128>, access: &Access) {
        let grant = Grant { socket, born, access: access.clone() };
        self.is_saved &= self.sockets.get(&socket) == Some(&grant);
        self.sockets.insert(socket, grant);
    }

    /// Forgets other sockets, and saves the rest if it has changed. A failure is retried at the next look.
    pub(super) fn keep_only(&mut self, is_wanted: impl Fn(FileId) -> bool) {
        let before = self.sockets.len();
        self.sockets.retain(|id, _| is_wanted(*id));
        self.is_saved &= self.sockets.len() == before;
        if self.is_saved {
            return;
        }
        match self.save().map_err(|error| report::chain(&error)) {
            Ok(()) => {
                self.is_saved = true;
                self.trouble.ends();
            }
            Err(error) => {
                if self.trouble.is_new(error.clone()) {
                    error!(
                        error,
                        "cannot save the access rights of the agent's sockets: a change while the driver does not run will not be noticed"
                    );
                }
            }
        }
    }

    fn save(&self) -> Result<(), FsError> {
        let Some(file) = &self.file else { return Ok(()) };
        let grants: Vec<_> = self.sockets.values().collect();
        let json = serde_json::to_vec(&grants).map_err(io::Error::other).map_err(FsError::of("encode", file))?;
        fsx::write_atomic(file, &json, 0o600)
    }
}

fn read(file: &Path) -> Result<Vec<Grant>, FsError> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(FsError::of("read", file)(error)),
        Ok(json) => serde_json::from_slice(&json).map_err(io::Error::other).map_err(FsError::of("decode", file)),
    }
}
