//! Pods that use as much as they can.

use std::path::Path;
use std::time::Instant;

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::measure::{median, peak_memory, settled_memory};
use svid_csi_testkit::pod;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tonic::Code;

use super::client::{Svids, api, asking};
use super::flood::calls;
use super::node_with;
use crate::endpoints::metric;
use crate::fixture::{Node, test, until, volume};

/// The number of calls with which a greedy client begins: more than any connection may have, more than most may have,
/// and as many as the driver refuses on one without ending it.
const BEGINNINGS: [u32; 4] = [200, 100, 40, 16];

/// A connection with as many calls as the driver accepts, and more.
struct Greedy {
    _connection: Option<UnixStream>,
    reading: Option<JoinHandle<()>>,
}

impl Greedy {
    /// A connection whose responses are read, or are not.
    async fn connect(socket: &Path, begins_with: u32, reads: bool) -> Option<Self> {
        let mut connection = UnixStream::connect(socket).await.ok()?;
        // It may be refused before everything is sent.
        let _ = connection.write_all(&calls("FetchX509SVID", begins_with)).await;
        if !reads {
            return Some(Self { _connection: Some(connection), reading: None });
        }
        let reading = tokio::spawn(async move {
            let mut said = [0; 4096];
            while connection.read(&mut said).await.is_ok_and(|bytes| bytes > 0) {}
        });
        Some(Self { _connection: None, reading: Some(reading) })
    }
}

impl Drop for Greedy {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}

/// The driver's memory at rest, in MB.
async fn memory(node: &Node) -> f64 {
    let pid = node.pid();
    tokio::task::spawn_blocking(move || settled_memory(pid).unwrap().rss).await.unwrap()
}

/// The median of the milliseconds from connecting to the identity.
async fn latency(socket: &Path) -> f64 {
    let mut times = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        Svids::open(socket).await.unwrap().next().await.unwrap();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    median(times)
}

#[test]
fn three_greedy_pods_cost_little_memory_which_is_released() {
    test(async || {
        let node = node_with(&["--metrics-address=127.0.0.1:0"]).await;
        let good = node.publish(&volume("good")).await.join("agent.sock");
        let alone = latency(&good).await;
        let idle = memory(&node).await;
        let mut held = Vec::new();
        for name in ["a", "b", "c"] {
            for one in ["one", "another"] {
                let socket = node.publish(&InlineVolume::new(&pod(name), one)).await.join("agent.sock");
                for number in 0..160 {
                    let begins_with = BEGINNINGS[number % BEGINNINGS.len()];
                    held.extend(
                        Greedy::connect(&socket, begins_with, (number / BEGINNINGS.len()).is_multiple_of(2)).await,
                    );
                }
            }
        }
        let connections = async || metric(&node, "workload_api_connections").await.unwrap();
        until("they hold most of what they may", async || connections().await > 75.0).await;
        memory(&node).await;
        let beside = latency(&good).await;
        let held_connections = connections().await;
        let height = peak_memory(node.pid()).unwrap() - idle;
        drop(held);
        until("they are removed", async || connections().await <= 1.0).await;
        let afterwards = memory(&node).await - idle;
        println!(
            "{held_connections} connections; idle {idle:.1} MB, {height:.1} MB more at its height, {afterwards:.1} MB more afterwards"
        );
        println!("another pod's identity: {alone:.2} ms alone, {beside:.2} ms beside them");
        assert!(beside <= 3.0 * alone + 20.0, "{beside} ms beside them, {alone} ms alone");
        assert!(height <= 25.2, "{height} MB more");
        assert!(afterwards <= 16.0, "{afterwards} MB more");
    });
}

#[test]
fn the_limits_apply_to_a_pod_over_all_its_volumes() {
    test(async || {
        let node = node_with(&["--metrics-address=127.0.0.1:0"]).await;
        let greedy = pod("greedy");
        let one = node.publish(&InlineVolume::new(&greedy, "one")).await.join("agent.sock");
        let other = node.publish(&InlineVolume::new(&greedy, "other")).await.join("agent.sock");
        let mut silent = Vec::new();
        for _ in 0..32 {
            silent.push(UnixStream::connect(&one).await.unwrap());
        }
        until("they are connected", async || metric(&node, "workload_api_connections").await == Some(32.0)).await;
        let refused = Svids::open(&other).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("this pod has 32 connections already"), "{refused}");
        drop(silent);
        until("there is room again", async || Svids::open(&other).await.is_ok()).await;

        let (mut api, mut another) = (api(&one).await, super::client::api(&other).await);
        let mut streams = Vec::new();
        for number in 0..128 {
            let api = if number % 2 == 0 { &mut api } else { &mut another };
            streams.push(api.fetch_x509svid(asking(Default::default())).await.unwrap());
        }
        let refused = api.fetch_x509svid(asking(Default::default())).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("this pod has 128 calls already"), "{refused}");
        another.fetch_x509svid(asking(Default::default())).await.unwrap_err();
        assert!(metric(&node, "workload_api_refused_calls").await.unwrap() >= 2.0);
        let said = node.log().lines().filter(|line| line.contains("a pod has reached a limit")).count();
        assert_eq!(said, 2, "once for each bound: {}", node.log());
        drop(streams);
        until("there is room again", async || api.fetch_x509svid(asking(Default::default())).await.is_ok()).await;
    });
}
