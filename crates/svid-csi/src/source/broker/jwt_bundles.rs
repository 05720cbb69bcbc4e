//! The bundles with which pods validate JWT-SVIDs of others: subscribed to only for pods that request them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use svid_csi_core::jwt::{JwtBundle, JwtBundles};
use svid_csi_core::pod::PodRef;
use svid_csi_core::quoted::Quoted;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_core::volume::VolumeSpec;
use svid_csi_proto::broker::{SubscribeToJwtBundlesRequest, WorkloadReference};
use svid_csi_proto::workload::JwtBundlesResponse;
use tokio::sync::watch;
use tonic::{Status, Streaming};
use tracing::{error, warn};

use super::connection::Connection;
use super::error::BrokerError;
use super::pod_state::Nothing;
use super::subscription::SubscriptionTask;
use super::topic::{BrokerClient, Topic};
use super::{Broker, ask};
use crate::spiffe::x509_message::trust_domain;
use crate::tasks::blocking;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reported::Reported;

/// How long the first caller waits for the agent.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bundles of one pod; empty until they are known, and when they are withdrawn.
struct JwtTopic {
    pod: PodRef,
    current: watch::Sender<Arc<JwtBundles>>,
    /// The errors in the bundles of other trust domains.
    damaged: Mutex<Reported>,
    /// Why the last message was refused.
    refused: Mutex<Reported>,
    metrics: Arc<Metrics>,
}

impl Broker {
    /// The bundles with which a volume's pod validates JWT-SVIDs, and their changes.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`], if the agent does not send them soon, or the pod is not followed: [`Broker::next`]
    /// starts that. A call after [`Broker::forget`] must not start it, because it would never end.
    pub async fn jwt_bundles(&self, spec: &VolumeSpec) -> Result<watch::Receiver<Arc<JwtBundles>>, BrokerError> {
        let pod = spec.pod.as_ref().ok_or(BrokerError::NoPod)?;
        let not_followed = || BrokerError::Unavailable("this pod has no active subscription".to_owned());
        let mut bundles = self.follow_bundles(pod).ok_or_else(not_followed)?;
        let known = tokio::time::timeout(PATIENCE, bundles.wait_for(|bundles| !bundles.is_empty())).await;
        if known.is_ok_and(|known| known.is_ok()) {
            Ok(bundles)
        } else {
            Err(BrokerError::Unavailable("it has not sent the JWT bundles yet".to_owned()))
        }
    }

    /// `None` if the pod has no subscription.
    fn follow_bundles(&self, pod: &PodRef) -> Option<watch::Receiver<Arc<JwtBundles>>> {
        let mut pods = self.pods();
        let subscription = pods.get_mut(&pod.uid)?;
        let (bundles, _) = subscription.jwt.get_or_insert_with(|| {
            let (current, bundles) = watch::channel(Arc::default());
            let metrics = self.reporter.metrics.clone();
            let topic =
                JwtTopic { pod: pod.clone(), current, damaged: Mutex::default(), refused: Mutex::default(), metrics };
            let follower = SubscriptionTask { topic, connections: self.connections.clone() };
            (bundles, self.tasks.detached(async move { match follower.run().await {} }))
        });
        Some(bundles.clone())
    }
}

impl JwtTopic {
    /// Logs and counts a refusal, unless the last message was refused for the same reason.
    fn refuse(&self, why: String) {
        let mut reported = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = reported.news(Some(why)) {
            error!(pod = %self.pod, error = why, "the JWT bundles that the agent gave are refused");
            self.metrics.identity_refused();
        }
    }

    /// Logs the problem whenever it changes.
    fn warn(&self, damaged: Vec<String>) {
        let mut reported = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = reported.news((!damaged.is_empty()).then(|| damaged.join("; "))) {
            warn!(pod = %self.pod, error = why, "JWT bundles of other trust domains are damaged; using the last good ones");
        }
    }
}

impl Topic for JwtTopic {
    type Message = JwtBundlesResponse;

    fn pod(&self) -> &PodRef {
        &self.pod
    }

    async fn subscribe(
        mut api: BrokerClient,
        reference: WorkloadReference,
    ) -> Result<Streaming<JwtBundlesResponse>, Status> {
        let request = ask(SubscribeToJwtBundlesRequest { reference: Some(reference) });
        Ok(api.subscribe_to_jwt_bundles(request).await?.into_inner())
    }

    async fn take(&self, connection: &Connection, message: JwtBundlesResponse) -> bool {
        let last = self.current.borrow().clone();
        match check(message, connection.own.context.trust_domain().clone(), last).await {
            Ok(Read { bundles, damaged }) => {
                self.refused.lock().unwrap_or_else(PoisonError::into_inner).ends();
                self.warn(damaged);
                self.current.send_if_modified(|current| {
                    let differs = **current != bundles;
                    *current = Arc::new(bundles);
                    differs
                });
                true
            }
            Err(why) => {
                self.refuse(why);
                false
            }
        }
    }

    fn nothing(&self, _: Nothing) {
        self.current.send_replace(Arc::default());
    }

    // Trusted bundles stay trusted. A failure of the agent is reported for the pod's identity.
    fn not_understood(&self, _: String) {}

    fn trouble(&self, _: String) {}
}

/// The readable part of a response.
#[derive(Default)]
struct Read {
    bundles: JwtBundles,
    /// The errors, one sentence each.
    damaged: Vec<String>,
}

async fn check(message: JwtBundlesResponse, own: TrustDomain, last: Arc<JwtBundles>) -> Result<Read, String> {
    let read = blocking(move || read(message, &own, &last));
    read.await.map_err(|error| error.to_string())?
}

/// Takes the readable bundles, and for damaged ones of other trust domains the last good ones. Fails if that of the
/// pod's own trust domain is damaged.
fn read(message: JwtBundlesResponse, own: &TrustDomain, last: &JwtBundles) -> Result<Read, String> {
    let mut read = Read::default();
    for (name, jwks) in message.bundles {
        let trust_domain = match trust_domain(&name) {
            Ok(trust_domain) => trust_domain,
            Err(error) => {
                read.damaged.push(format!("{}: {error}", Quoted::new(name)));
                continue;
            }
        };
        let bundle = JwtBundle::read(&jwks).map(Arc::new).or_else(|error| {
            read.damaged.push(format!("{trust_domain}: {error}"));
            last.get(&trust_domain).filter(|_| trust_domain != *own).cloned().ok_or(error)
        });
        read.bundles.extend(bundle.ok().map(|bundle| (trust_domain, bundle)));
    }
    read.damaged.sort();
    // A bundle with an unreadable name may be the pod's own.
    if !read.damaged.is_empty() && !read.bundles.contains_key(own) { Err(read.damaged.join("; ")) } else { Ok(read) }
}
