//! gRPC connections over Unix sockets.

use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error};

use crate::tasks::Looks;

/// Connects to the socket at `path`.
///
/// # Errors
/// If no process listens there.
pub async fn connect(path: &Path) -> Result<Channel, Error> {
    let path = path.to_owned();
    // The URI only sets the :authority header; the connector decides where to connect.
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
}

/// The same for a socket whose file system may hang: it is one of `looks`, however long that takes.
///
/// # Errors
/// If no process listens there.
pub async fn connect_by(looks: &Looks, path: &Path) -> Result<Channel, Error> {
    let (looks, path) = (looks.clone(), path.to_owned());
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let (looks, path) = (looks.clone(), path.clone());
            async move { open_by(&looks, path).await.map(TokioIo::new) }
        }))
        .await
}

/// Connects to a socket whose file system may hang: the kernel finds it before it returns.
///
/// # Errors
/// If no process listens there.
pub async fn open_by(looks: &Looks, path: PathBuf) -> io::Result<UnixStream> {
    let connected = looks.at_leisure(move || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&path)?)?;
        Ok::<_, io::Error>(socket)
    });
    UnixStream::from_std(connected.await??.into())
}
