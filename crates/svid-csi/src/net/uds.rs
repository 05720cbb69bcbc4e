//! Unix sockets that only root can reach.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// A bound socket whose file is removed when this is dropped.
#[derive(Debug)]
pub struct Bound {
    /// The file.
    pub path: PathBuf,
    file: Option<(u64, u64)>,
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
    let listener = listen(path).map_err(failed)?;
    Ok((listener, Bound { path: path.to_owned(), file: identity(path) }))
}

/// The mode is set before the file exists, so that no client connects in between. A umask would affect the whole
/// process.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, 1024)?;
    UnixListener::from_std(socket.into())
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is already there"))
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process is listening there"))
        }
        Ok(_) => fs::remove_file(path),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Bound {
    /// Whether its path still leads to it.
    pub fn is_there(&self) -> bool {
        self.file.is_some() && identity(&self.path) == self.file
    }
}

impl Drop for Bound {
    /// Removes the file, unless it was replaced.
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
