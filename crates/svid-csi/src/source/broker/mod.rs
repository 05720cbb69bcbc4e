//! Source `broker`: the SPIFFE Broker API of an agent on this node, which issues identities for pods by their UIDs.
//!
//! There is one connection, on which the driver presents its own identity, and on it one subscription per pod. The
//! response for one pod is never used for another.

mod absence;
mod agent_socket;
pub mod config;
mod connection;
mod connections;
mod error;
mod jwt_bundles;
mod own_svid;
mod pod_state;
mod subscription;
mod tokens;
mod topic;
mod x509_topic;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Uri;
use k8s_openapi::api::core::v1::ObjectReference;
use svid_csi_core::jwt::JwtBundles;
use svid_csi_core::pod::PodRef;
use svid_csi_core::volume::{Subject, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::broker::WorkloadReference;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::Request;
use tonic::metadata::MetadataValue;

use self::config::BrokerConfig;
use self::connection::{BrokerServer, Connection};
use self::connections::Connections;
pub use self::error::BrokerError;
use self::own_svid::OwnSvid;
use self::pod_state::{PodState, Verdict, Wants};
use self::subscription::SubscriptionTask;
use self::topic::BrokerClient;
use self::x509_topic::{ProblemReporter, X509Topic};
use super::Reason;
use crate::kube::events::Events;
use crate::spiffe::bundle_warnings::BundleWarnings;
use crate::spiffe::x509_message::MOST_BYTES;
use crate::tasks::{Looks, Tasks};
use crate::telemetry::metrics::Metrics;

/// The source.
#[derive(Debug)]
pub struct Broker {
    connections: Connections,
    reporter: ProblemReporter,
    tasks: Tasks,
    pods: Mutex<HashMap<String, Subscription>>,
}

/// A pod's subscription, shared by its volumes. Ends when dropped.
#[derive(Debug)]
struct Subscription {
    pod: PodRef,
    pod_state: watch::Receiver<PodState>,
    volumes: BTreeSet<VolumeId>,
    task: AbortHandle,
    /// The pod's JWT bundles, once requested; empty until they are known.
    jwt: Option<(watch::Receiver<Arc<JwtBundles>>, AbortHandle)>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
        if let Some((_, task)) = &self.jwt {
            task.abort();
        }
    }
}

impl Broker {
    /// Follows the driver's own identity, and connects as soon as it has one. The agent need not be running.
    pub fn open(config: BrokerConfig, metrics: Arc<Metrics>, events: Option<Events>, tasks: &Tasks) -> Self {
        let bundle_warnings = Arc::<BundleWarnings>::default();
        // The agent's file system may hang.
        let looks = Looks::default();
        let own = OwnSvid::follow(config.workload_api_dir, looks.clone(), bundle_warnings.clone(), tasks);
        let server = BrokerServer { endpoint: config.endpoint, looks, server_id: config.server_id };
        let connections = Connections::keep(server, own, metrics.clone(), tasks);
        let reporter = ProblemReporter { metrics, events, bundle_warnings };
        Broker { connections, reporter, tasks: tasks.clone(), pods: Mutex::default() }
    }

    /// The next identity of a volume's pod: at once if the volume has none, else when it changes.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn next(
        &self,
        spec: &VolumeSpec,
        subject: &Subject,
        reason: Reason<'_>,
    ) -> Result<X509Context, BrokerError> {
        let pod = spec.pod.as_ref().ok_or(BrokerError::NoPod)?;
        let mut pod_state = self.subscribe(&spec.id, pod);
        loop {
            let verdict = pod_state.borrow_and_update().verdict(wants(reason), subject.hint.as_deref());
            match verdict {
                Verdict::Take(context) => return Ok(context),
                Verdict::Fail(error) => return Err(error),
                Verdict::Wait => {}
            }
            if pod_state.changed().await.is_err() {
                // The volume was forgotten in the meantime.
                std::future::pending().await
            }
        }
    }

    /// The pod's subscription, which is opened if there is none.
    fn subscribe(&self, volume: &VolumeId, pod: &PodRef) -> watch::Receiver<PodState> {
        let mut pods = self.pods();
        let subscription = pods.entry(pod.uid.clone()).or_insert_with(|| self.begin(pod));
        if !subscription.volumes.contains(volume) {
            subscription.volumes.insert(volume.clone());
        }
        subscription.pod_state.clone()
    }

    fn begin(&self, pod: &PodRef) -> Subscription {
        let (sender, pod_state) = watch::channel(PodState::default());
        let x509_topic = X509Topic { pod: pod.clone(), state: sender, reporter: self.reporter.clone() };
        let task = SubscriptionTask { topic: x509_topic, connections: self.connections.clone() };
        let task = self.tasks.detached(async move { match task.run().await {} });
        Subscription { pod: pod.clone(), pod_state, volumes: BTreeSet::new(), task, jwt: None }
    }

    /// Forgets a volume, and with the last volume of a pod also the pod.
    pub fn forget(&self, spec: &VolumeSpec) {
        let Some(pod) = &spec.pod else { return };
        let mut pods = self.pods();
        if let Some(subscription) = pods.get_mut(&pod.uid) {
            subscription.volumes.remove(&spec.id);
            if subscription.volumes.is_empty() {
                pods.remove(&pod.uid);
            }
        }
    }

    /// The volumes that wait, each with what it waits for.
    pub fn waiting(&self) -> BTreeMap<VolumeId, String> {
        let pods = self.pods();
        let each = |subscription: &Subscription| {
            let waits = self.waits_for(subscription);
            let volumes: Vec<_> = subscription.volumes.iter().cloned().collect();
            waits.into_iter().flat_map(move |waits| volumes.clone().into_iter().map(move |id| (id, waits.clone())))
        };
        pods.values().flat_map(each).collect()
    }

    /// What a volume waits for, if it waits.
    pub fn waiting_of(&self, volume: &VolumeId) -> Option<String> {
        let pods = self.pods();
        let subscription = pods.values().find(|subscription| subscription.volumes.contains(volume))?;
        self.waits_for(subscription)
    }

    fn waits_for(&self, subscription: &Subscription) -> Option<String> {
        let of_pod = || subscription.pod_state.borrow().waits_for(&subscription.pod);
        self.connections.waits_for().or_else(of_pod)
    }

    /// Whether the driver is connected to the agent's Broker API.
    pub fn is_up(&self) -> bool {
        self.connections.is_up()
    }

    /// Sends an event about this node when the agent has been gone for a while, once until it is back.
    pub fn report_absence(&self, events: Events, node: ObjectReference) {
        let connections = self.connections.clone();
        self.tasks.detached(async move {
            let because = || connections.waits_for().unwrap_or_default();
            let report = |message: String| absence::report(&events, &node, message);
            match absence::watch(connections.follow(), because, report).await {}
        });
    }

    /// The number of followed pods.
    pub fn subscriptions(&self) -> usize {
        self.pods().len()
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Subscription>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wants(reason: Reason<'_>) -> Wants<'_> {
    match reason {
        Reason::First => Wants::First,
        Reason::Renewal { last: None, .. } => Wants::Anything,
        Reason::Renewal { last: Some(_), at_once: true } => Wants::Again,
        // For a volume whose driver did not store a digest.
        Reason::Renewal { last: Some(last), at_once: false } => {
            last.digest.as_deref().map_or(Wants::Again, Wants::Other)
        }
    }
}

/// A call with the header that the agent requires exactly once (SPIFFE Broker Endpoint, section 3).
fn ask<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("broker.spiffe.io", MetadataValue::from_static("true"));
    request
}

/// The calls, on that connection.
fn api(connection: &Connection) -> BrokerClient {
    // Only sets the :authority of the calls.
    let origin = Uri::from_static("https://localhost");
    BrokerClient::with_origin(connection.clone(), origin).max_decoding_message_size(MOST_BYTES)
}

/// By name and UID; the agent checks that both belong to the same pod.
fn reference(pod: &PodRef) -> WorkloadReference {
    WorkloadReference::to_pod(&pod.namespace, &pod.name, &pod.uid)
}
