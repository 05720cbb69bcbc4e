//! Descriptors whose last close(2) blocks, and sockets over which they are passed.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};

/// A TCP connection that lingers for two minutes when it is closed, because its peer reads nothing, and the peer.
///
/// # Errors
/// If there is no loopback network.
pub fn lingering() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut connection = TcpStream::connect(listener.local_addr()?)?;
    let (peer, _) = listener.accept()?;
    connection.set_nonblocking(true)?;
    while connection.write(&[0; 65_536]).is_ok() {}
    sockopt::set_socket_linger(&connection, Some(Duration::from_secs(120)))?;
    Ok((connection, peer))
}

/// Sends bytes over a Unix socket, and a descriptor with them (`SCM_RIGHTS`, unix(7)).
///
/// # Errors
/// sendmsg(2).
///
/// # Panics
/// If there is no room for one descriptor.
pub fn pass(socket: impl AsFd, bytes: &[u8], flags: SendFlags, descriptor: impl AsFd) -> rustix::io::Result<usize> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags | SendFlags::NOSIGNAL)
}
