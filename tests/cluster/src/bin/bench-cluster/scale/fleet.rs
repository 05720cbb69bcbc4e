//! The simulated nodes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::DeleteParams;
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use serde_json::json;
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi::kube::watching::{Selection, WatchItem, Watching};
use svid_csi_cluster::objects;
use svid_csi_cluster::requests::{self, Terms};
use svid_csi_core::cert_request::{NODE_LABEL, hash_identifier};
use svid_csi_core::pod::PodRef;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Size;
use crate::outcomes::Awaited;
use crate::world::{HANDS, NAME, USER, World};

/// How long a driver's watch lasts before it is resumed, in seconds.
const LASTS: u32 = 60;
/// How long a renewal may take.
const PATIENCE: Duration = Duration::from_secs(120);

struct Node {
    name: String,
    client: Client,
    pods: Vec<PodRef>,
}

/// The nodes, and the watches of those that have begun to watch. They end with the value.
pub(super) struct Fleet {
    nodes: Vec<Node>,
    awaited: Awaited,
    watches: JoinSet<()>,
}

impl Fleet {
    /// Creates all objects.
    pub(super) async fn settle(world: &World, size: Size) -> Result<Self> {
        let made = stream::iter(0..size.nodes).map(|index| node(world, index, size.pods_per_node));
        let nodes = made.buffer_unordered(HANDS).try_collect().await?;
        Ok(Self { nodes, awaited: Awaited::default(), watches: JoinSet::new() })
    }

    /// Lets more nodes watch, until there are `count`.
    pub(super) async fn watch(&mut self, count: u32) -> Result<()> {
        for node in self.nodes.iter().take(count as usize).skip(self.watches.len()) {
            let selector = format!("{NODE_LABEL}={}", hash_identifier(&node.name));
            let selection = Selection { labels: Some(selector), fields: None, page: 10, lasts: LASTS };
            let mut watching = Watching::new(Api::all(node.client.clone()), selection, Default::default());
            until_watched(&mut watching).await.with_context(|| format!("{} cannot watch", node.name))?;
            self.watches.spawn(follow(watching, self.awaited.clone()));
        }
        Ok(())
    }

    /// Renews pods of the watching nodes, and returns how long each request took until its certificate arrived.
    pub(super) async fn renew(&self, terms: &Terms, rate: f64, lasts: Duration) -> Result<Vec<Duration>> {
        ensure!(!self.watches.is_empty(), "no node watches");
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        // At a machine's limit the rate must not catch up in bursts.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewals = JoinSet::new();
        let (begun, mut turn) = (Instant::now(), 0);
        while begun.elapsed() < lasts {
            ticks.tick().await;
            let node = self.nodes.get(turn % self.watches.len()).context("no node watches")?;
            let pod = node.pods.get(turn / self.watches.len() % node.pods.len()).context("a node without a pod")?;
            turn += 1;
            let object = terms.request_on(&node.name, pod)?;
            let (client, own) = (node.client.clone(), Api::namespaced(node.client.clone(), NAME));
            let issued = self.awaited.of(object["metadata"]["name"].as_str().unwrap_or_default());
            renewals.spawn(tokio::time::timeout(PATIENCE, renewal(client, own, object, issued)));
        }
        let mut latencies = Vec::new();
        while let Some(renewed) = renewals.join_next().await {
            latencies.push(renewed?.context("a renewal takes too long")??);
        }
        ensure!(!latencies.is_empty(), "nothing was renewed");
        Ok(latencies)
    }
}

async fn node(world: &World, index: u32, pods: u32) -> Result<Node> {
    let name = format!("scale-{index}");
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    objects::apply(&world.client, &[object]).await?;
    let driver = world.pod_on(&name, &format!("driver-{index}"), NAME).await?;
    let mut own = Vec::new();
    for pod in 0..pods {
        own.push(world.pod_on(&name, &format!("user-{index}-{pod}"), USER).await?);
    }
    Ok(Node { client: world.client_of(&driver).await?, name, pods: own })
}

async fn until_watched(watching: &mut Watching<CertificateRequest>) -> Result<()> {
    while !matches!(watching.next().await?, WatchItem::Watched) {}
    Ok(())
}

async fn follow(mut watching: Watching<CertificateRequest>, awaited: Awaited) {
    loop {
        match watching.next().await {
            Ok(WatchItem::Event(Event::Apply(request) | Event::InitApply(request))) => awaited.report(&request),
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn renewal(
    client: Client,
    own: Api<CertificateRequest>,
    object: serde_json::Value,
    issued: impl Future<Output = Result<()>>,
) -> Result<Duration> {
    let begun = Instant::now();
    let name = requests::create(&client, &object).await?;
    issued.await?;
    let took = begun.elapsed();
    own.delete(&name, &DeleteParams::default()).await?;
    Ok(took)
}
