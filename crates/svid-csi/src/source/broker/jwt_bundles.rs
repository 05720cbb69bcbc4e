//! What pods validate JWT-SVIDs of others with: subscribed to for a pod that asks for it, and for no other.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::jwt::{JwtBundle, JwtBundles};
use svid_csi_core::pod::PodRef;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_core::volume::VolumeSpec;
use svid_csi_proto::broker::{SubscribeToJwtBundlesRequest, WorkloadReference};
use svid_csi_proto::workload::JwtBundlesResponse;
use tokio::sync::watch;
use tonic::{Status, Streaming};
use tracing::error;

use super::connection::Connection;
use super::error::BrokerError;
use super::state::Nothing;
use super::subscription::Follower;
use super::topic::{Api, Topic};
use super::{Broker, ask};
use crate::metrics::Metrics;

/// How long whoever asks first waits for the agent.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bundles of one pod; empty until they are known, and when they are withdrawn.
struct Bundles {
    pod: PodRef,
    current: watch::Sender<Arc<JwtBundles>>,
    metrics: Arc<Metrics>,
}

impl Broker {
    /// What a volume's pod validates JWT-SVIDs with, now and whenever it changes.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`], where the agent does not say it soon, or the pod is not followed: [`Broker::next`]
    /// begins that, and a call that comes after [`Broker::forget`] must not, as nobody would end it.
    pub async fn jwt_bundles(&self, spec: &VolumeSpec) -> Result<watch::Receiver<Arc<JwtBundles>>, BrokerError> {
        let pod = spec.pod.as_ref().ok_or(BrokerError::NoPod)?;
        let not_followed = || BrokerError::Unavailable("no volume of this pod is followed now".to_owned());
        let mut bundles = self.follow_bundles(pod).ok_or_else(not_followed)?;
        let known = tokio::time::timeout(PATIENCE, bundles.wait_for(|bundles| !bundles.is_empty())).await;
        if known.is_ok_and(|known| known.is_ok()) {
            Ok(bundles)
        } else {
            Err(BrokerError::Unavailable("it has not sent the JWT bundles yet".to_owned()))
        }
    }

    /// Nothing where the pod has no subscription.
    fn follow_bundles(&self, pod: &PodRef) -> Option<watch::Receiver<Arc<JwtBundles>>> {
        let mut pods = self.pods();
        let subscription = pods.get_mut(&pod.uid)?;
        let (bundles, _) = subscription.jwt.get_or_insert_with(|| {
            let (current, bundles) = watch::channel(Arc::default());
            let topic = Bundles { pod: pod.clone(), current, metrics: self.notices.metrics.clone() };
            let follower = Follower { topic, connections: self.connections.clone() };
            (bundles, self.tasks.detached(async move { match follower.run().await {} }))
        });
        Some(bundles.clone())
    }
}

impl Topic for Bundles {
    type Message = JwtBundlesResponse;

    fn pod(&self) -> &PodRef {
        &self.pod
    }

    async fn subscribe(mut api: Api, reference: WorkloadReference) -> Result<Streaming<JwtBundlesResponse>, Status> {
        let request = ask(SubscribeToJwtBundlesRequest { reference: Some(reference) });
        Ok(api.subscribe_to_jwt_bundles(request).await?.into_inner())
    }

    async fn take(&self, _: &Connection, message: JwtBundlesResponse) {
        match read(message) {
            Ok(bundles) => {
                self.current.send_if_modified(|current| {
                    let differs = **current != bundles;
                    *current = Arc::new(bundles);
                    differs
                });
            }
            Err(why) => {
                error!(pod = %self.pod, error = why, "the JWT bundles that the agent gave are refused");
                self.metrics.identity_refused();
            }
        }
    }

    fn nothing(&self, _: Nothing) {
        self.current.send_replace(Arc::default());
    }

    // What is trusted is no less so for that; and that the agent fails is told of the pod's identity.
    fn not_understood(&self, _: String) {}

    fn trouble(&self, _: String) {}
}

fn read(message: JwtBundlesResponse) -> Result<JwtBundles, String> {
    let read = |(name, jwks): (String, Vec<u8>)| {
        let name = name.strip_prefix("spiffe://").ok_or_else(|| "a bundle has no trust domain".to_owned())?;
        let trust_domain = TrustDomain::parse(name).map_err(|error| error.to_string())?;
        let bundle = JwtBundle::read(&jwks).map_err(|error| format!("{trust_domain}: {error}"))?;
        Ok((trust_domain, Arc::new(bundle)))
    };
    message.bundles.into_iter().map(read).collect()
}
