//! Unix sockets on which pods connect, and may pass descriptors.
//!
//! The last close of a descriptor blocks for as long as its creator wants, for example if it is a TCP connection that
//! lingers. The kernel closes descriptors that no one asked for in the thread that reads the bytes they came with, and
//! those that wait in a socket in the thread that closes it. So bytes are only read after a look has shown that no
//! descriptors came with them, and a socket in which descriptors wait is closed by a thread of its own.

use std::io::{self, IoSliceMut};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, Shutdown, recv, recvmsg, shutdown, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

/// The number of bytes that the kernel keeps for a client that does not read, of which it counts each twice.
const SEND_BUFFER: usize = 16 * 1024;
/// How much is read at a time, and how often, of a connection that is closed: more than a client can send.
const DRAINED: usize = 16 * 1024;
const DRAINS: usize = 64;
/// The stack of a thread that closes sockets, in bytes.
const CLOSING_STACK: usize = 64 * 1024;

/// A listening socket. It holds `P` until it is closed.
#[derive(Debug)]
pub(crate) struct PodListener<P: Send + 'static>(Option<(UnixListener, P)>);

/// A connection. It holds `P` until it is closed.
#[derive(Debug)]
pub(crate) struct PodStream<P: Send + 'static>(Option<(UnixStream, P)>);

impl<P: Send + 'static> PodListener<P> {
    pub(crate) fn new(listener: UnixListener, held: P) -> Self {
        Self(Some((listener, held)))
    }

    /// The next connection, which must be wrapped at once.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        match &self.0 {
            Some((listener, _)) => listener.poll_accept(cx),
            None => Poll::Pending,
        }
    }
}

impl<P: Send + 'static> Drop for PodListener<P> {
    fn drop(&mut self) {
        let Some((listener, held)) = self.0.take() else { return };
        let Ok(listener) = listener.into_std() else { return };
        // No client connects from here on.
        let _ = shutdown(&listener, Shutdown::Both);
        loop {
            match listener.accept().map(|(waiting, _)| OwnedFd::from(waiting)) {
                Ok(waiting) if is_drained(&waiting) => {}
                Ok(waiting) => return close_elsewhere((waiting, listener, held)),
                // No connection waits.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput) => return,
                Err(_) => return close_elsewhere((listener, held)),
            }
        }
    }
}

impl<P: Send + 'static> PodStream<P> {
    pub(crate) fn new(stream: UnixStream, held: P) -> Self {
        let _ = sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
        // Otherwise a read drops urgent data, and what came with it, and a look does not show it.
        let is_inline = sockopt::set_socket_oobinline(&stream, true);
        debug_assert!(is_inline.is_ok(), "{is_inline:?}");
        Self(Some((stream, held)))
    }

    fn open(&mut self) -> io::Result<&mut UnixStream> {
        let open = self.0.as_mut().map(|(stream, _)| stream);
        open.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<P: Send + 'static> Drop for PodStream<P> {
    fn drop(&mut self) {
        let Some((stream, held)) = self.0.take() else { return };
        let Ok(stream) = stream.into_std().map(OwnedFd::from) else { return };
        if !is_drained(&stream) {
            close_elsewhere((stream, held));
        }
    }
}

impl<P: Send + Unpin + 'static> AsyncRead for PodStream<P> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.open()?;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_io(Interest::READABLE, || receive(&*stream, out.initialize_unfilled())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received.map(|bytes| out.advance(bytes))),
            }
        }
    }
}

impl<P: Send + Unpin + 'static> AsyncWrite for PodStream<P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.open()?).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.open()?).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.open()?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.open()?).poll_shutdown(cx)
    }
}

/// Reads like recv(2), but fails if descriptors came with the bytes, and leaves both where they are.
fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    let (mut nothing, look) = (RecvAncillaryBuffer::default(), RecvFlags::PEEK | RecvFlags::DONTWAIT);
    let seen = recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut nothing, look)?;
    if seen.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client passes descriptors"));
    }
    // Not more than was looked at, because descriptors may have come with later bytes.
    let (_, received) = recv(&socket, &mut bytes[..seen.bytes], RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// Ends a connection and empties it. Returns whether closing it cannot block.
fn is_drained(connection: &OwnedFd) -> bool {
    // The client cannot send from here on.
    let _ = shutdown(connection, Shutdown::Both);
    if sockopt::set_socket_oobinline(connection, true).is_err() {
        return false;
    }
    let mut bytes = [0; DRAINED];
    for _ in 0..DRAINS {
        match receive(connection, &mut bytes) {
            Ok(0) => return true,
            // The client has closed its end, and nothing is left to read.
            Err(error) if error.raw_os_error() == Some(Errno::CONNRESET.raw_os_error()) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Drops sockets with their permits on a thread of their own, because another one's close may take any time. The permits limit the
/// number of threads. If no thread can be started, the sockets stay open, and take up the room of their pod.
fn close_elsewhere(sockets: impl Send + 'static) {
    // If there is no thread, the closure is dropped here.
    let sockets = ManuallyDrop::new(sockets);
    let thread = thread::Builder::new().name("svid-csi-close".to_owned()).stack_size(CLOSING_STACK);
    let _ = thread.spawn(move || drop(ManuallyDrop::into_inner(sockets)));
}

#[cfg(test)]
mod tests;
