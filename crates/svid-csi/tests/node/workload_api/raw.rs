//! A client that uses HTTP/2 in ways that no library for gRPC would.

use std::path::Path;

use h2::SendStream;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::{Method, Request};
use hyper::body::Bytes;
use tokio::net::UnixStream;

/// An empty message in gRPC's framing.
pub(crate) const EMPTY: &[u8] = &[0; 5];

/// A connection that is not read yet.
pub(crate) type Unread = Connection<UnixStream, Bytes>;
pub(crate) type Sender = SendRequest<Bytes>;

pub(crate) async fn connect(socket: &Path, settings: &Builder) -> (Sender, Unread) {
    let stream = UnixStream::connect(socket).await.unwrap();
    settings.handshake(stream).await.unwrap()
}

/// The head of a call as every client must send it.
pub(crate) fn head(method: &str) -> Request<()> {
    let request = Request::builder().method(Method::POST).uri(format!("http://x/SpiffeWorkloadAPI/{method}"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    request.header("workload.spiffe.io", "true").body(()).unwrap()
}

/// Sends the head of a call; the message follows.
pub(crate) async fn begin(sender: Sender, method: &str) -> (Sender, ResponseFuture, SendStream<Bytes>) {
    let mut sender = sender.ready().await.unwrap();
    let (answer, body) = sender.send_request(head(method), false).unwrap();
    (sender, answer, body)
}

/// Sends a complete call.
pub(crate) async fn call(sender: Sender, method: &str) -> (Sender, ResponseFuture) {
    let (sender, answer, mut body) = begin(sender, method).await;
    body.send_data(Bytes::from_static(EMPTY), true).unwrap();
    (sender, answer)
}
