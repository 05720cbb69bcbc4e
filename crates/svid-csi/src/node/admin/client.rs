//! Sends requests to a running driver over its admin socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode, request};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::net::exchange;

/// The driver waits at most two seconds for volumes that are busy.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_ANSWER: usize = 64 * 1024;
/// Of 10,000 volumes with the longest names.
const LONGEST_PAGE: usize = 64 * 1024 * 1024;

/// Why there is no response from a driver.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no socket.
    #[error(
        "there is no socket {}: is the driver running on this node, and is this its --admin-socket (default: \
         admin.sock in its --data-root)?", .0.display()
    )]
    Missing(PathBuf),
    /// The socket exists, but no process is listening on it.
    #[error("no process is listening on {}: the driver is no longer running", .0.display())]
    NotRunning(PathBuf),
    /// The socket belongs to root.
    #[error("no permission to use {}: run this command as root, such as in the driver's container", .0.display())]
    Permission(PathBuf),
    /// Any other error of the connection.
    #[error("cannot connect to {}", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Another program answered, or the driver has just ended.
    #[error("unexpected response from {}; is another program listening there?", .socket.display())]
    Talk {
        /// The socket.
        socket: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The response takes too long.
    #[error("the driver on {} did not respond within {} seconds", .0.display(), PATIENCE.as_secs())]
    Slow(PathBuf),
}

/// Sends a POST without a body, and returns the driver's response.
///
/// # Errors
/// [`AskError`], if there is no response.
pub async fn post(socket: &Path, path_and_query: &str) -> Result<(StatusCode, Vec<u8>), AskError> {
    ask(socket, Request::post(path_and_query), LONGEST_ANSWER).await
}

/// Gets a page.
///
/// # Errors
/// [`AskError`], if there is no response.
pub async fn get(socket: &Path, path: &str) -> Result<(StatusCode, Vec<u8>), AskError> {
    ask(socket, Request::get(path), LONGEST_PAGE).await
}

async fn ask(socket: &Path, request: request::Builder, longest: usize) -> Result<(StatusCode, Vec<u8>), AskError> {
    let asked = timeout(PATIENCE, async {
        let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, error))?;
        let talked = async {
            let request = request.header(http::header::HOST, "localhost").body(Body::empty())?;
            exchange::once(stream, request, longest).await
        };
        talked.await.map_err(|source| AskError::Talk { socket: socket.to_owned(), source })
    });
    asked.await.map_err(|_| AskError::Slow(socket.to_owned()))?
}

fn unreachable(socket: &Path, error: io::Error) -> AskError {
    let socket = socket.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => AskError::Missing(socket),
        io::ErrorKind::ConnectionRefused => AskError::NotRunning(socket),
        io::ErrorKind::PermissionDenied => AskError::Permission(socket),
        _ => AskError::Connect { socket, source: error },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;
    use crate::telemetry::report;

    /// The result of a request to a listener that responds with this text.
    async fn answered(text: &str) -> Result<(StatusCode, Vec<u8>), String> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(text.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(post(&socket, "/x"), serve);
        answer.map_err(|error| report::chain(&error))
    }

    #[tokio::test]
    async fn responses_are_read_and_nonsense_is_reported() {
        let answer = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(answered(answer).await, Ok((StatusCode::ACCEPTED, b"ok".to_vec())));
        let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
        for nonsense in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", &large] {
            let error = answered(nonsense).await.unwrap_err();
            assert!(error.contains("is another program listening there?: "), "{error}");
        }
    }

    #[tokio::test]
    async fn each_kind_of_absence_has_its_own_message() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        assert!(matches!(post(&socket, "/").await, Err(AskError::Missing(_))));
        drop(UnixListener::bind(&socket).unwrap());
        assert!(matches!(post(&socket, "/").await, Err(AskError::NotRunning(_))));
        let denied = unreachable(&socket, io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(denied.contains("as root"), "{denied}");
        let long = dir.path().join("x".repeat(200));
        assert!(matches!(post(&long, "/").await, Err(AskError::Connect { .. })));
    }
}
