//! One request over a connection of its own, and its response.

use axum::body::{self, Body};
use http::{Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends the request, and reads the response up to that many bytes.
///
/// # Errors
/// If the connection ends early, or the other side does not speak HTTP.
pub(crate) async fn once(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Body>,
    longest: usize,
) -> Result<(StatusCode, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let (status, body) = (answer.status(), Body::new(answer.into_body()));
        // Ends the connection, and the `join` below, once the response is complete.
        drop(sender);
        Ok((status, body::to_bytes(body, longest).await?.to_vec()))
    };
    let (answer, ended) = tokio::join!(answer, connection);
    match (answer, ended) {
        (Err(_), Err(error)) => Err(error.into()),
        (answer, _) => answer,
    }
}
