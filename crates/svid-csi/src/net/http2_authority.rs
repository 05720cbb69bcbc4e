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
#[derive(Debug)]
pub struct Lenient<S> {
    stream: S,
    rewriter: Rewriter,
    /// Rewritten bytes that were not read yet.
    ready: Vec<u8>,
}

impl<S> Lenient<S> {
    /// Wraps a new connection.
    #[must_use]
    pub fn new(stream: S) -> Self {
        Self { stream, rewriter: Rewriter::default(), ready: Vec::new() }
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
        while this.ready.is_empty() {
            let mut bytes = [0; 4096];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.rewriter.push(read.filled(), &mut this.ready);
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
