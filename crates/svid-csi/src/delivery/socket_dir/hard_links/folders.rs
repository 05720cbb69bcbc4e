//! The open folders of a synchronisation, and what is done in them.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use svid_csi_core::state::FileId;

use super::super::access::{Access, by_descriptor};
use super::super::agent_folder::{Socket, id, open};
use crate::host::beneath::{Budget, Folder};
use crate::host::fsx::{self, FsError};
use crate::host::seal;

/// How long the leftovers of one change are deleted, because a pod may still be adding to them.
const SWEEPS_FOR: Duration = Duration::from_millis(50);

/// The open folders of a synchronisation.
#[derive(Debug)]
pub(super) struct SyncedFolders<'a> {
    pub(super) from: Option<OwnedFd>,
    pub(super) to: OwnedFd,
    pub(super) stable: &'a Path,
}

impl SyncedFolders<'_> {
    /// Links a socket aside. False if the agent has removed it in the meantime.
    pub(super) fn prepare(
        &self,
        socket: &Socket,
        name: &OsString,
        aside: &Folder,
        link: &str,
    ) -> Result<bool, FsError> {
        let path = self.stable.join(name);
        let failed = || FsError::of("link the agent's socket to", &path);
        unlink(aside, link).map_err(failed())?;
        match rustix::fs::linkat(CWD, by_descriptor(&socket.handle), aside, link, AtFlags::SYMLINK_FOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            linked => linked.map(|()| true).map_err(failed()),
        }
    }

    /// Moves the prepared link to `name`.
    pub(super) fn place(&self, link: &str, name: &OsString, aside: &Folder) -> Result<(), FsError> {
        let path = self.stable.join(name);
        rustix::fs::renameat(aside, link, &self.to, name).map_err(FsError::of("link the agent's socket to", &path))
    }

    /// Gives the stable directory these access rights.
    pub(super) fn restore(&self, access: &Access) -> Result<(), FsError> {
        access.restore(&self.to).map_err(FsError::of("copy the access rights of the agent's directory to", self.stable))
    }

    /// Moves a file, or a folder with its content, out of the stable directory, because pods may have created one.
    pub(super) fn remove(&self, name: &OsString, aside: &Folder) -> Result<(), FsError> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let moved = format!("moved-{}-{}", now.tv_sec, now.tv_nsec);
        match rustix::fs::renameat(&self.to, name, aside, moved) {
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(errno) => Err(FsError::of("remove", &self.stable.join(name))(errno)),
        }
    }
}

/// The folder for what is moved, on the same mount as the stable directory. Only root can enter it.
pub(super) fn open_aside(path: &Path) -> Result<Folder, FsError> {
    fsx::ensure_dir(path, 0o700)?;
    let folder = open(path)?;
    check_owner(&folder, path)?;
    Ok(Folder::of(folder, path.to_owned()))
}

fn unlink(folder: &Folder, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        unlinked => unlinked,
    }
}

/// Deletes what was moved aside. A pod may still be writing into a folder of its own; then the rest is left for later.
pub(super) fn sweep(aside: &Folder) -> Result<(), FsError> {
    let mut budget = Budget::of(SWEEPS_FOR);
    aside.names()?.iter().try_for_each(|name| aside.remove_within(name, &mut budget))
}

pub(super) fn check_owner(folder: &OwnedFd, path: &Path) -> Result<(), FsError> {
    let stat = rustix::fs::fstat(folder).map_err(FsError::of("inspect", path))?;
    // Only the driver seals it; a pod may have given it away just before.
    let is_sealed = seal::is_sealed(folder).map_err(FsError::of("inspect", path))?;
    if is_sealed || stat.st_uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let other = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
    Err(FsError { action: "use as the stable directory", path: path.to_owned(), source: other })
}

/// The access rights that the stable directory should have, if it has others: a user who may not enter the agent's
/// directory must not reach its sockets through ours.
pub(super) fn other_access(from: Option<&OwnedFd>, to: &OwnedFd, stable: &Path) -> Result<Option<Access>, FsError> {
    let look = || {
        let access = |folder: &OwnedFd| Access::of(folder, &rustix::fs::fstat(folder)?);
        let ours = access(to)?;
        let wanted = from.map_or_else(|| Ok(ours.clone()), access)?.of_ours();
        Ok((wanted != ours).then_some(wanted))
    };
    let failed = FsError::of("compare the access rights of the agent's directory with those of", stable);
    look().map_err(|error: io::Error| failed(error))
}

/// Through the stable directory, where a change is not mistaken for one by the agent.
pub(super) fn put_back(to: &OwnedFd, name: &OsString, expected: FileId, access: &Access) -> io::Result<()> {
    let socket = rustix::fs::openat(to, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if id(&rustix::fs::fstat(&socket)?) == expected { access.restore(&socket) } else { Ok(()) }
}
