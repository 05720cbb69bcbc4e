//! What a pod can make the driver hold in memory, in every way that its socket offers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::measure::{peak_memory, settled_memory, until_idle};
use svid_csi_testkit::pod;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use self::attacks::{Attack, attacks};
use super::flood::{WINDOW_UPDATE, next_frame};
use super::node_with;
use crate::endpoints::metric;
use crate::fixture::{Node, test, until};

mod attacks;

/// The most that a pod may make the driver hold, and that a hundred may together, in MB: 8 MiB, and 256 MiB.
const MOST: f64 = 8.388_608;
const MOST_OF_A_HUNDRED: f64 = 268.435_456;
/// The attacks of the hundred, which take a minute each.
const MANY_PODS: [&str; 3] = ["endless requests for secrets", "secrets that are not read", "all of it"];
/// More connections than a pod may have.
const CONNECTIONS: usize = 34;
/// Whose cost is measured together, because the memory of a process is a matter of pages.
const PODS: usize = 3;

/// How long an attacker waits for the driver to read on.
const PATIENCE: Duration = Duration::from_millis(200);

/// As many connections as a pod may have, on each of which it sends that and reads nothing.
async fn attack(socket: &Path, attack: &Attack) -> Vec<UnixStream> {
    let mut held = Vec::new();
    for number in 0..CONNECTIONS {
        // The kernel refuses connections that do not fit into the queue of the socket.
        let Ok(mut stream) = UnixStream::connect(socket).await else { break };
        for (number, piece) in attack.connections[number % attack.connections.len()].iter().enumerate() {
            let sends = async {
                if number > 1 {
                    more_is_allowed(&mut stream).await;
                }
                stream.write_all(piece).await
            };
            // The driver may stop to read, or end it.
            if !matches!(timeout(PATIENCE, sends).await, Ok(Ok(()))) {
                break;
            }
        }
        held.push(stream);
    }
    held
}

/// Reads until the driver enlarges the window of the connection, or ends it.
async fn more_is_allowed(stream: &mut UnixStream) {
    while !matches!(next_frame(stream).await, None | Some((WINDOW_UPDATE, 0, _))) {}
}

/// Waits until the driver has done all that it was sent, and returns the MB it then takes up.
async fn rest(node: &Node) -> f64 {
    let pid = node.pid();
    let settled = tokio::task::spawn_blocking(move || {
        // An unoptimised driver may be busy for minutes.
        (0..60).find_map(|_| until_idle(pid).ok()).expect("the driver rests");
        settled_memory(pid).unwrap().rss
    });
    settled.await.unwrap()
}

/// The MB that pods make the driver hold at most, also while they go, and what it has more when they have gone.
async fn held_by(pods: usize, what: &Attack) -> (f64, f64) {
    let node = node_with(&["--metrics-address=127.0.0.1:0"]).await;
    let volumes: Vec<_> = (0..pods).map(|number| InlineVolume::new(&pod(&format!("bad-{number}")), "spiffe")).collect();
    let mut sockets: Vec<PathBuf> = Vec::new();
    for volume in &volumes {
        sockets.push(node.publish(volume).await.join("agent.sock"));
    }
    let idle = rest(&node).await;
    let held = join_all(sockets.iter().map(|socket| attack(socket, what))).await;
    rest(&node).await;
    for volume in &volumes {
        node.unpublish(volume).await;
    }
    drop(held);
    until("they are gone", async || metric(&node, "workload_api_connections").await == Some(0.0)).await;
    let afterwards = rest(&node).await - idle;
    (peak_memory(node.pid()).unwrap() - idle, afterwards)
}

#[expect(clippy::print_stdout, reason = "the figures are what `just leaks` is for")]
async fn hold_at_most(pods: usize, most: f64, attacks: Vec<Attack>) {
    let mut over = Vec::new();
    for attack in attacks {
        let (height, afterwards) = held_by(pods, &attack).await;
        let what = attack.what;
        println!("{what}: {height:.1} MB for {pods} pods, {afterwards:.1} MB afterwards");
        if height > most {
            over.push(format!("{what}: {height:.1} MB"));
        }
    }
    assert!(over.is_empty(), "more than {most} MB for {pods} pods: {over:?}");
}

#[test]
#[ignore = "takes a minute: just leaks"]
fn a_pod_makes_the_driver_hold_little() {
    test(async || {
        let pods = u32::try_from(PODS).unwrap();
        hold_at_most(PODS, f64::from(pods) * MOST, attacks()).await;
    });
}

#[test]
#[ignore = "takes minutes: just leaks"]
fn a_hundred_hostile_pods() {
    test(async || {
        let chosen = attacks().into_iter().filter(|attack| MANY_PODS.contains(&attack.what)).collect();
        hold_at_most(100, MOST_OF_A_HUNDRED, chosen).await;
    });
}
