//! The socket in a volume's folder.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use svid_csi_core::files::FileName;
use tokio::net::UnixListener;

use crate::fsx::{self, FsError};

/// Everyone in the pod may connect: who cannot see the volume cannot.
const MODE: u32 = 0o777;

/// A name no volume's socket can have.
const NEXT: &str = "..next";

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why there is no socket in a volume.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It cannot be bound.
    #[error("cannot listen in {}", .folder.display())]
    Listen {
        /// The volume's folder.
        folder: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// It cannot be put in its place.
    #[error("the volume's socket cannot be prepared")]
    File(#[from] FsError),
}

/// Listens in the folder under all those names, taking the place of the sockets of an earlier run: a client finds the old
/// one or the new one.
pub(super) fn listen(folder: &Path, names: &[FileName]) -> Result<UnixListener, ListenError> {
    let next = folder.join(NEXT);
    fsx::remove_file(&next)?;
    let listener = bind(folder).map_err(|source| ListenError::Listen { folder: folder.to_owned(), source })?;
    fs::set_permissions(&next, Permissions::from_mode(MODE)).map_err(FsError::of("open to all", &next))?;
    for name in names {
        let (name, linked) = (folder.join(name.as_str()), folder.join("..link"));
        fsx::remove_file(&linked)?;
        fs::hard_link(&next, &linked).map_err(FsError::of("link", &linked))?;
        fs::rename(&linked, &name).map_err(FsError::of("replace", &name))?;
    }
    fsx::remove_file(&next)?;
    Ok(listener)
}

/// Binds through the folder's descriptor: a socket's path has at most 107 bytes (unix(7)), and this one may have more.
fn bind(folder: &Path) -> io::Result<UnixListener> {
    let opened = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{NEXT}", opened.as_raw_fd());
    let listener = StdListener::bind(path)?;
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// The inode that all the names lead to; none where one is missing or leads elsewhere.
pub(super) fn inode(folder: &Path, names: &[FileName]) -> Option<u64> {
    let mut inodes =
        names.iter().map(|name| fs::symlink_metadata(folder.join(name.as_str())).ok().map(|file| file.ino()));
    let first = inodes.next()??;
    inodes.all(|inode| inode == Some(first)).then_some(first)
}
