use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::net::SendFlags;
use svid_csi_testkit::lingering;
use tokio::io::AsyncReadExt;

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

/// Sends bytes, and with them the only descriptor of a TCP connection whose close blocks until the returned peer ends.
fn pass(socket: &UnixStream, bytes: &[u8], flags: SendFlags) -> TcpStream {
    let (passed, peer) = lingering().unwrap();
    svid_csi_testkit::pass(socket, bytes, flags, passed).unwrap();
    peer
}

/// Reports when it is dropped.
struct Held(Sender<()>);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn held() -> (Held, Receiver<()>) {
    let (sender, receiver) = channel();
    (Held(sender), receiver)
}

/// Drops something on another thread, which must not block.
fn drop_at_once(what: impl Send + 'static) {
    let (done, is_done) = channel();
    thread::spawn(move || {
        drop(what);
        done.send(())
    });
    is_done.recv_timeout(LIMIT).expect("it is dropped at once");
}

/// The end, or a reset because the driver has not read everything.
async fn sees_the_end(client: &mut UnixStream) {
    match client.read(&mut [0; 8]).await {
        Ok(bytes) => assert_eq!(bytes, 0),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn bytes_are_read_until_descriptors_come_with_them() {
    for flags in [SendFlags::empty(), SendFlags::OOB] {
        let (client, server) = UnixStream::pair().unwrap();
        let mut server = PodStream::new(server, ());
        client.try_write(b"before").unwrap();
        let mut before = [0; 6];
        server.read_exact(&mut before).await.unwrap();
        let _peer = pass(&client, b"x", flags);
        let refused = server.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(refused.to_string(), "the client passes descriptors");
        drop_at_once(server);
    }
}

#[tokio::test]
async fn a_connection_is_closed_elsewhere_and_its_room_is_taken_until_then() {
    let (mut client, server) = UnixStream::pair().unwrap();
    let (one, is_closed) = held();
    let server = PodStream::new(server, one);
    let peer = pass(&client, b"x", SendFlags::empty());
    drop_at_once(server);
    sees_the_end(&mut client).await;
    is_closed.try_recv().expect_err("its room is taken");

    let (_other_client, server) = UnixStream::pair().unwrap();
    let (other, is_also_closed) = held();
    drop(PodStream::new(server, other));
    is_also_closed.try_recv().expect("others do not wait for it");

    drop(peer);
    is_closed.recv_timeout(LIMIT).expect("its room is free again");
}

#[tokio::test]
async fn a_socket_with_waiting_connections_is_closed_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (one, is_closed) = held();
    let listener = PodListener::new(UnixListener::bind(&path).unwrap(), one);
    let mut plain = UnixStream::connect(&path).await.unwrap();
    let client = UnixStream::connect(&path).await.unwrap();
    let peer = pass(&client, b"x", SendFlags::empty());
    drop_at_once(listener);
    sees_the_end(&mut plain).await;
    is_closed.try_recv().expect_err("its room is taken");
    drop(peer);
    is_closed.recv_timeout(LIMIT).expect("its room is free again");
}

#[tokio::test]
async fn what_a_client_has_sent_before_the_end_does_not_matter() {
    let (client, server) = UnixStream::pair().unwrap();
    let (one, is_closed) = held();
    let server = PodStream::new(server, one);
    while client.try_write(&[0; 4096]).is_ok() {}
    drop(client);
    drop(server);
    is_closed.try_recv().expect("it is closed at once");
}
