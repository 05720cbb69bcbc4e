//! gRPC connections over Unix sockets.

use std::path::Path;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error};

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
