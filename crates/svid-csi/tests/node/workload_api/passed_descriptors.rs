//! Pods that pass descriptors over their socket, of which the last close(2) blocks.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::SendFlags;
use svid_csi_testkit::{lingering, pass};
use tokio::time::timeout;

use super::client::Svids;
use super::node_with;
use crate::endpoints::metric;
use crate::fixture::{Node, test, until, volume};

/// The beginning of every connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LIMIT: Duration = Duration::from_secs(120);
/// More than the driver has threads.
const MANY: usize = 12;

/// A client that has passed on the only descriptor of a TCP connection: it lingers for two minutes when it is closed, because
/// its peer reads nothing.
struct Passed {
    _peer: TcpStream,
    _socket: UnixStream,
}

impl Passed {
    fn over(socket: UnixStream, bytes: &[u8], flags: SendFlags) -> Self {
        let (passed, peer) = lingering().unwrap();
        // The driver may have ended the connection.
        let _ = pass(&socket, bytes, flags, &passed);
        // This close blocks if the driver has closed its descriptor before.
        std::thread::spawn(move || drop(passed));
        Self { _peer: peer, _socket: socket }
    }
}

/// The driver answers the kubelet and other pods.
async fn all_is_well(node: &Node, other_pod: &str) {
    timeout(LIMIT, it_answers(node, other_pod)).await.expect("no thread of the driver is blocked");
}

async fn it_answers(node: &Node, other_pod: &str) {
    let other = volume(other_pod);
    let target = node.publish(&other).await;
    Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
    assert_eq!(node.trouble(&other).await, None);
    node.unpublish(&other).await;
}

#[test]
fn descriptors_that_a_pod_passes_block_no_thread() {
    test(async || {
        let node = node_with(&["--metrics-address=127.0.0.1:0"]).await;
        let bad = volume("bad");
        let socket = node.publish(&bad).await.join("agent.sock");
        let connect = || UnixStream::connect(&socket).unwrap();
        let mut held = Vec::new();
        for (name, bytes, flags) in [
            ("preface", PREFACE, SendFlags::empty()),
            ("urgent", b"P", SendFlags::OOB),
            ("garbage", b"GET / HTTP/1.1\r\n\r\n", SendFlags::empty()),
        ] {
            held.extend((0..MANY).map(|_| Passed::over(connect(), bytes, flags)));
            all_is_well(&node, name).await;
        }
        // Those behind the one that is being refused are in the queue of the socket.
        while held.len() < 150 {
            held.push(Passed::over(connect(), PREFACE, SendFlags::empty()));
        }
        all_is_well(&node, "queue").await;
        timeout(LIMIT, node.unpublish(&bad)).await.expect("it is unpublished");
        all_is_well(&node, "end").await;
        drop(held);
        until("nothing is left of it", async || metric(&node, "workload_api_connections").await == Some(0.0)).await;
    });
}
