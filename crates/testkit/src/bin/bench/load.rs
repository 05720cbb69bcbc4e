//! Calls to a driver, timed. Requests are created beforehand and the connection is kept, so that the client costs
//! little.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use svid_csi::demo::kubelet::{Capability, InlineVolume, Kubelet, Plugin};
use svid_csi_proto::csi_v1::identity_client::IdentityClient;
use svid_csi_proto::csi_v1::node_client::NodeClient;
use svid_csi_proto::csi_v1::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest, ProbeRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use svid_csi_testkit::measure::Sample;

/// The number of concurrent calls.
pub(crate) const AT_ONCE: usize = 8;

/// A client of one driver.
pub(crate) struct Load<'a> {
    kubelet: &'a Kubelet,
    takes_group: bool,
    node: NodeClient<Channel>,
    identity: IdentityClient<Channel>,
}

impl<'a> Load<'a> {
    pub(crate) async fn new(kubelet: &'a Kubelet, plugin: &Plugin) -> Result<Self> {
        let takes_group = plugin.can(Capability::VolumeMountGroup);
        Ok(Self { kubelet, takes_group, node: plugin.node().await?, identity: plugin.identity().await? })
    }

    /// Empty calls.
    pub(crate) async fn probe(&self, count: usize) -> Result<Sample> {
        let requests = vec![ProbeRequest {}; count];
        one_by_one(requests, |request| probe(self.identity.clone(), request)).await
    }

    /// Empty calls, several at once: the number per second.
    pub(crate) async fn probe_at_once(&self, count: usize) -> Result<f64> {
        let client = self.identity.clone();
        at_once(vec![ProbeRequest {}; count], move |request| probe(client.clone(), request)).await
    }

    pub(crate) async fn publish(&self, volumes: &[InlineVolume]) -> Result<Sample> {
        one_by_one(self.to_publish(volumes), |request| publish(self.node.clone(), request)).await
    }

    /// Publishes several at once: the number per second.
    pub(crate) async fn publish_at_once(&self, volumes: &[InlineVolume]) -> Result<f64> {
        let client = self.node.clone();
        at_once(self.to_publish(volumes), move |request| publish(client.clone(), request)).await
    }

    pub(crate) async fn unpublish(&self, volumes: &[InlineVolume]) -> Result<Sample> {
        one_by_one(self.to_unpublish(volumes), |request| unpublish(self.node.clone(), request)).await
    }

    /// Unpublishes several at once: the number per second.
    pub(crate) async fn unpublish_at_once(&self, volumes: &[InlineVolume]) -> Result<f64> {
        let client = self.node.clone();
        at_once(self.to_unpublish(volumes), move |request| unpublish(client.clone(), request)).await
    }

    fn to_publish(&self, volumes: &[InlineVolume]) -> Vec<NodePublishVolumeRequest> {
        let request = |volume: &InlineVolume| volume.publish_request(&self.target(volume), self.takes_group);
        volumes.iter().map(request).collect()
    }

    fn to_unpublish(&self, volumes: &[InlineVolume]) -> Vec<NodeUnpublishVolumeRequest> {
        let request = |volume: &InlineVolume| NodeUnpublishVolumeRequest {
            volume_id: volume.id().into(),
            target_path: self.target(volume),
        };
        volumes.iter().map(request).collect()
    }

    fn target(&self, volume: &InlineVolume) -> String {
        self.kubelet.target(volume).to_string_lossy().into_owned()
    }
}

async fn probe(mut client: IdentityClient<Channel>, request: ProbeRequest) -> Result<()> {
    client.probe(request).await.map(drop).context("Probe")
}

async fn publish(mut client: NodeClient<Channel>, request: NodePublishVolumeRequest) -> Result<()> {
    client.node_publish_volume(request).await.map(drop).context("NodePublishVolume")
}

async fn unpublish(mut client: NodeClient<Channel>, request: NodeUnpublishVolumeRequest) -> Result<()> {
    client.node_unpublish_volume(request).await.map(drop).context("NodeUnpublishVolume")
}

async fn one_by_one<R, F: Future<Output = Result<()>>>(requests: Vec<R>, call: impl Fn(R) -> F) -> Result<Sample> {
    let mut durations = Vec::with_capacity(requests.len());
    for request in requests {
        let begun = Instant::now();
        call(request).await?;
        durations.push(begun.elapsed());
    }
    Ok(Sample::new(durations))
}

async fn at_once<R, F>(requests: Vec<R>, call: impl Fn(R) -> F + Clone + Send + 'static) -> Result<f64>
where
    R: Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let count = u32::try_from(requests.len())?;
    let queue = Arc::new(Mutex::new(requests.into_iter()));
    let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (next, call) = (next.clone(), call.clone());
        callers.spawn(async move {
            while let Some(request) = next() {
                call(request).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}
