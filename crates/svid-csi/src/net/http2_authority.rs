//! Accepts clients that write the socket's path as the HTTP/2 host: the kubelet, and clients based on gRPC's C core,
//! such as Python's library.
//!
//! The HTTP/2 library refuses such a request early (`:authority` must be a host; the kubelet's is
//! `%2Fvar%2Flib%2Fkubelet%2F..`). On a Unix socket the name is meaningless, so [`Lenient`] replaces it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use svid_csi_core::http2_authority::Rewriter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A connection whose requests are for the host `x`, whatever the client sent.
///
/// After the head of each request, the reader has to wait for a turn. The HTTP/2 library would otherwise decode all heads
/// that have arrived, which take up many times the memory of what was sent, before the server sees the first one.
#[derive(Debug)]
pub struct Lenient<S> {
    stream: S,
    rewriter: Rewriter,
    /// Bytes that follow a head.
    next: Vec<u8>,
    /// Rewritten bytes that were not read yet.
    ready: Vec<u8>,
    /// Whether a head ends with the bytes that are ready, or were read last.
    ends_head: bool,
}

impl<S> Lenient<S> {
    /// Wraps a new connection.
    #[must_use]
    pub fn new(stream: S) -> Self {
        Self { stream, rewriter: Rewriter::default(), next: Vec::new(), ready: Vec::new(), ends_head: false }
    }
}

impl<S: Connected> Connected for Lenient<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ready.is_empty() && std::mem::take(&mut this.ends_head) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while this.ready.is_empty() {
            let mut bytes = [0; 4096];
            let mut read = ReadBuf::new(&mut bytes);
            if this.next.is_empty() {
                ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            } else {
                read.put_slice(&std::mem::take(&mut this.next));
            }
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Some(rest) = this.rewriter.push_head(read.filled(), &mut this.ready) {
                this.ends_head = true;
                this.next = rest.to_vec();
            }
        }
        let taken = this.ready.len().min(out.remaining());
        out.put_slice(&this.ready[..taken]);
        this.ready.drain(..taken);
        if this.ready.is_empty() {
            // Most connections send little and then wait for hours.
            this.ready = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_reader_gets_one_head_in_a_turn() {
        const PREFACE: usize = 24;
        // The head of a request without any header: length, HEADERS, END_HEADERS, stream.
        let head = [0, 0, 0, 1, 4, 0, 0, 0, 1];
        let (mut client, server) = duplex(1024);
        client.write_all(&[&[b'P'; PREFACE][..], &head, &head].concat()).await.unwrap();
        let mut lenient = Lenient::new(server);
        let mut read = [0; 1024];
        assert_eq!(lenient.read(&mut read).await.unwrap(), PREFACE + head.len());
        {
            let mut next = pin!(lenient.read(&mut read));
            assert!(poll!(&mut next).is_pending(), "others have a turn");
            assert_eq!(next.await.unwrap(), head.len());
        }
    }
}
