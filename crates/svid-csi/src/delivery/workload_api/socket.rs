//! The socket in a volume's folder.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use svid_csi_core::files::FileName;
use tokio::net::UnixListener;

use super::share::Full;
use crate::delivery::volume_folder::{VolumeFolder, budget};
use crate::host::beneath::Folder;
use crate::host::fsx::FsError;

/// Everyone in the pod may connect; others cannot access the volume.
const MODE: u32 = 0o777;

/// Temporary names, which no volume's socket can have.
const NEXT: &str = "..next";
const LINK: &str = "..link";

/// The number of connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why a volume has no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It cannot be bound.
    #[error("cannot listen in {}", .folder.display())]
    Listen {
        /// The volume's folder.
        folder: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// There are too many sockets.
    #[error(transparent)]
    Full(#[from] Full),
    /// It cannot be moved to its final name.
    #[error("the volume's socket cannot be prepared")]
    File(#[from] FsError),
}

/// Listens in the folder under all those names, and replaces the sockets of an earlier run: a client finds either the
/// old one or the new one. Returns the inode of the socket.
pub(super) fn listen(folder: &Folder, names: &[FileName]) -> Result<(UnixListener, u64), ListenError> {
    let mut budget = budget();
    folder.remove_within(NEXT, &mut budget)?;
    let failed = |source| ListenError::Listen { folder: folder.shown_path().to_owned(), source };
    let listener = bind(folder).map_err(failed)?;
    let inode = open_to_all(folder).map_err(failed)?;
    for name in names {
        folder.remove_within(LINK, &mut budget)?;
        folder.hard_link(NEXT, LINK)?;
        folder.rename(LINK, name.as_str(), &mut budget)?;
    }
    folder.remove_within(NEXT, &mut budget)?;
    Ok((listener, inode))
}

/// Binds through the folder's descriptor, because a socket's path has at most 107 bytes (unix(7)) and this one may be
/// longer. An existing name, even a link, is an error (bind(2)).
fn bind(folder: &Folder) -> io::Result<UnixListener> {
    let listener = StdListener::bind(folder.through_descriptor(NEXT))?;
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// The mode is set on the inspected file, even if the name leads to another file by then. Linux before 6.6 does not
/// have fchmodat2(2).
fn open_to_all(folder: &Folder) -> io::Result<u64> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = rustix::fs::openat(folder, NEXT, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&socket)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::Error::other("the new socket was replaced immediately"));
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", socket.as_raw_fd()), Mode::from_raw_mode(MODE))?;
    Ok(stat.st_ino)
}

/// Whether all the names lead to that socket, everyone may connect to it, and nothing else is in the folder.
pub(super) fn is_alone(volume: &VolumeFolder, names: &[FileName], inode: u64) -> Result<bool, FsError> {
    let folder = volume.seen();
    let is_it = |stat: Stat| {
        let socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        socket && stat.st_ino == inode && stat.st_mode & 0o777 == MODE
    };
    for name in names {
        if !folder.stat(name.as_str())?.is_some_and(is_it) {
            return Ok(false);
        }
    }
    let is_named = folder.names()?.iter().all(|found| names.iter().any(|name| found == name.as_str()));
    Ok(is_named && (!folder.seals() || folder.is_sealed()?))
}
