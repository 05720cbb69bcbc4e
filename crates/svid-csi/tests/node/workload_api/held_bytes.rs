//! What a pod can make the driver hold in memory, in every way that its socket offers.

use std::path::Path;
use std::time::Duration;

use prost::Message;
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_proto::sds::{DiscoveryRequest, SECRET_TYPE};
use svid_csi_testkit::measure::{peak_memory, settled_memory};
use svid_csi_testkit::pod;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::flood::{beginning, calls, data, head};
use super::node_with;
use crate::endpoints::metric;
use crate::fixture::{Node, test, until};

/// The most that a pod may make the driver hold, in MB.
const MOST: f64 = 12.0;
const CONNECTIONS: usize = 64;
/// Initial windows (RFC 9113, 6.5.2) of 0 bytes, and of all that is possible.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
const ALL_WINDOW: [u8; 6] = [0, 4, 0x7f, 0xff, 0xff, 0xff];

/// Headers that HTTP/2 counts as 16 KiB, and that are much smaller on the wire, and larger in memory.
fn many_headers() -> Vec<u8> {
    // A literal that is not indexed, with a name of one letter and no value.
    [0, 1, b'x', 0].repeat(470)
}

/// One header of 15 KB.
fn long_header() -> Vec<u8> {
    // 127 + 0x71 + (0x74 << 7) = 15,088 bytes (RFC 7541, 5.1).
    [&[0, 1, b'x', 0x7f, 0xf1, 0x74][..], &[b'v'; 15_088]].concat()
}

fn half_calls(more: &[u8]) -> Vec<u8> {
    let heads = (0..100).flat_map(|call| head(2 * call + 1, "SpiffeWorkloadAPI", "FetchX509SVID", more));
    beginning(&[]).into_iter().chain(heads).collect()
}

/// Calls for tokens that never end.
fn endless_messages() -> Vec<u8> {
    let begun = (0..3).flat_map(|call| {
        let head = head(2 * call + 1, "SpiffeWorkloadAPI", "ValidateJWTSVID", &[]);
        [head, data(2 * call + 1, &[&[0, 0, 0, 0x4f, 0xff][..], &[b'x'; 15_000]].concat())].concat()
    });
    beginning(&[]).into_iter().chain(begun).collect()
}

/// A stream of secrets whose response does not fit into the window, so that the rest of its requests is not read: whole
/// windows of it, in parts of that size.
fn unread_requests(size: usize) -> Vec<u8> {
    let request = DiscoveryRequest { type_url: SECRET_TYPE.to_owned(), ..Default::default() }.encode_to_vec();
    let request = [&[0, 0, 0, 0, u8::try_from(request.len()).unwrap()], &request[..]].concat();
    let head = head(1, "envoy.service.secret.v3.SecretDiscoveryService", "StreamSecrets", &[]);
    let rest = data(1, &vec![0; size]).repeat(60_000 / size);
    [beginning(&NO_WINDOW), head, data(1, &request), rest].concat()
}

fn unread_responses() -> Vec<u8> {
    let calls = calls("FetchX509SVID", 16);
    [beginning(&ALL_WINDOW), calls[beginning(&[]).len()..].to_vec()].concat()
}

/// As many connections as a pod may have, on each of which it sends that and reads nothing.
async fn attack(socket: &Path, bytes: &[u8]) -> Vec<UnixStream> {
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        // The driver may stop to read, or end it.
        let _ = timeout(Duration::from_millis(200), stream.write_all(bytes)).await;
        held.push(stream);
    }
    held
}

async fn rest(node: &Node) -> f64 {
    let pid = node.pid();
    tokio::task::spawn_blocking(move || settled_memory(pid).unwrap().rss).await.unwrap()
}

/// The MB that pods make the driver hold, and what it has more when they have gone.
async fn held_by(pods: usize, bytes: &[u8]) -> (f64, f64) {
    let node = node_with(&["--metrics-address=127.0.0.1:0"]).await;
    let volumes: Vec<_> = (0..pods).map(|number| InlineVolume::new(&pod(&format!("bad-{number}")), "spiffe")).collect();
    let mut sockets = Vec::new();
    for volume in &volumes {
        sockets.push(node.publish(volume).await.join("agent.sock"));
    }
    let idle = rest(&node).await;
    let mut held = Vec::new();
    for socket in &sockets {
        held.extend(attack(socket, bytes).await);
    }
    rest(&node).await;
    let height = peak_memory(node.pid()).unwrap() - idle;
    for volume in &volumes {
        node.unpublish(volume).await;
    }
    drop(held);
    until("they are gone", async || metric(&node, "workload_api_connections").await == Some(0.0)).await;
    (height, rest(&node).await - idle)
}

fn attacks() -> [(&'static str, Vec<u8>); 7] {
    [
        ("half calls", half_calls(&[])),
        ("half calls with many headers", half_calls(&many_headers())),
        ("half calls with a long header", half_calls(&long_header())),
        ("endless messages", endless_messages()),
        ("requests in one piece that are not read", unread_requests(15_000)),
        ("requests in single bytes that are not read", unread_requests(1)),
        ("responses that are not read", unread_responses()),
    ]
}

#[test]
#[ignore = "takes half a minute: just leaks"]
fn a_pod_makes_the_driver_hold_little() {
    test(async || {
        for (what, bytes) in attacks() {
            let (height, afterwards) = held_by(3, &bytes).await;
            println!("{what}: {height:.1} MB for 3 pods, {afterwards:.1} MB afterwards");
            assert!(height <= 3.0 * MOST, "{what}: {height} MB for 3 pods");
        }
    });
}

#[test]
#[ignore = "a measurement: just leaks"]
fn a_hundred_hostile_pods() {
    test(async || {
        for (what, bytes) in attacks() {
            let (height, afterwards) = held_by(100, &bytes).await;
            println!("{what}: {height:.1} MB for 100 pods, {afterwards:.1} MB afterwards");
        }
    });
}
