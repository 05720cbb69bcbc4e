//! Unix sockets that only root can reach.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use svid_csi_core::state::FileId;
use tokio::net::UnixListener;

/// A bound socket whose file is removed when this is dropped.
#[derive(Debug)]
pub struct Bound {
    /// The file.
    pub path: PathBuf,
    file: FileId,
}

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}", .path.display())]
pub struct BindError {
    /// The socket.
    pub path: PathBuf,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

/// Listens on `path`, which has mode 0600 from the beginning, and replaces a socket that no longer has a listener.
/// Creates the folder if it is missing.
///
/// # Errors
/// [`BindError`], also if another process listens there or the file is not a socket.
pub fn bind_private(path: &Path) -> Result<(UnixListener, Bound), BindError> {
    let failed = |source| BindError { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    remove_stale(path).map_err(failed)?;
    let (listener, file) = listen(path).map_err(failed)?;
    Ok((listener, Bound { path: path.to_owned(), file }))
}

/// The mode is set before the file exists, so that no client connects in between. A umask would affect the whole
/// process.
fn listen(path: &Path) -> io::Result<(UnixListener, FileId)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, 1024)?;
    let listener = UnixListener::from_std(socket.into())?;
    let file = identity(path)?.ok_or_else(|| io::Error::other("it was deleted at once"))?;
    Ok((listener, file))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is already there"))
        }
        Ok(_) if has_listener(path)? => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process is listening there"))
        }
        Ok(_) => fs::remove_file(path),
    }
}

/// Only a refused connection means that there is none.
fn has_listener(path: &Path) -> io::Result<bool> {
    match connect(path) {
        // It is a socket of another type.
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Connects and disconnects without waiting. A listener whose backlog is full counts as one.
pub(crate) fn connect(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let client = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&client, &SocketAddrUnix::new(path)?) {
        Err(Errno::AGAIN) => Ok(()),
        connected => connected,
    }
}

fn identity(path: &Path) -> io::Result<Option<FileId>> {
    match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        found => found.map(|found| Some(FileId { device: found.dev(), inode: found.ino() })),
    }
}

impl Bound {
    /// Whether its path still leads to it.
    ///
    /// # Errors
    /// If that cannot be determined.
    pub fn is_there(&self) -> io::Result<bool> {
        Ok(identity(&self.path)? == Some(self.file))
    }

    /// Binds a new socket in its place; if that fails, this one stays.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn renew(&mut self) -> Result<UnixListener, BindError> {
        let renewed = self.try_renew();
        renewed.map_err(|source| BindError { path: self.path.clone(), source })
    }

    fn try_renew(&mut self) -> io::Result<UnixListener> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.path.with_file_name(format!(".{name}.former"));
        fs::rename(&self.path, &aside)?;
        match listen(&self.path) {
            Ok((listener, file)) => {
                self.file = file;
                // No one connects to a hidden socket, and the next renewal replaces it.
                let _ = fs::remove_file(aside);
                Ok(listener)
            }
            Err(error) => fs::rename(aside, &self.path).and(Err(error)),
        }
    }
}

impl Drop for Bound {
    /// Removes the file, unless it was replaced.
    fn drop(&mut self) {
        if matches!(self.is_there(), Ok(true)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    #[tokio::test]
    async fn only_a_socket_without_a_listener_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("csi.sock");
        let datagrams = UnixDatagram::bind(&path).unwrap();
        assert_eq!(bind_private(&path).unwrap_err().source.kind(), io::ErrorKind::AddrInUse, "it is not known");
        drop((datagrams, fs::remove_file(&path).unwrap()));
        let running = UnixListener::bind(&path).unwrap();
        assert_eq!(bind_private(&path).unwrap_err().source.kind(), io::ErrorKind::AddrInUse);
        drop(running);
        let (_listener, bound) = bind_private(&path).unwrap();
        assert!(bound.is_there().unwrap());
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_renewed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("csi.sock");
        let (_first, mut bound) = bind_private(&path).unwrap();
        let _second = bound.renew().unwrap();
        assert!(bound.is_there().unwrap() && has_listener(&path).unwrap());
        // The name to which it is moved is taken by a folder.
        fs::create_dir(folder.path().join(".csi.sock.former")).unwrap();
        bound.renew().unwrap_err();
        assert!(bound.is_there().unwrap() && has_listener(&path).unwrap());
    }
}
