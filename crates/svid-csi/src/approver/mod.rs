//! `svid-csi approver`: judges certificate requests.
//!
//! `watch` -> `queue` -> `work`, while this process holds the Lease -> `judge` (the rules of core, with `pods` if they
//! need pods) -> `write`.

pub mod dry_run;
mod endpoints;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod input;
mod issuer;
mod judge;
mod list_watch;
mod metrics;
mod notices;
mod object;
mod pods;
mod queue;
mod text;
mod work;
mod write;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand;
use kube::Client;
use svid_csi_core::approve::Policy;
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::endpoints::EndpointState;
pub use self::endpoints::Listen;
use self::issuer::KnownIssuers;
use self::judge::Judge;
use self::list_watch::RequestWatch;
use self::metrics::Metrics;
use self::notices::Notices;
use self::pods::Pods;
use self::queue::Queue;
use self::write::Writer;
use crate::kube::client::{self, ClientError, ClientOptions};
use crate::kube::events::Events;
use crate::kube::lease::{Candidate, Leadership};
use crate::net::probes;
use crate::tasks::{Signals, Stopped, Tasks};
use crate::telemetry::report;

/// How long the shutdown of all tasks may take.
const DRAIN: Duration = Duration::from_millis(4_500);

/// The configuration of the approver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// How the API server is reached.
    pub client: ClientOptions,
    /// The ConfigMap that names the issuer in place of the policy.
    pub runtime_issuer: Option<ConfigMapPlace>,
    /// The namespace of the Lease for leader election, which is named after the driver.
    pub lease_namespace: String,
    /// The address of /livez and /readyz.
    pub probes: Option<Listen>,
    /// The address of /metrics.
    pub metrics: Option<Listen>,
}

/// Why the approver could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The client of the API server cannot be created.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The probes cannot be served.
    #[error("--readiness-probe-bind-address {address}: cannot listen")]
    Probes {
        /// The address.
        address: Listen,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signal(#[source] io::Error),
    /// A task that must run forever has ended; the log has the reason.
    #[error("a task failed")]
    TaskFailed,
}

/// Approves and denies requests until SIGTERM or SIGINT.
///
/// An unreachable API server is not an error: the approver retries until it answers.
///
/// # Errors
/// [`RunError`].
pub async fn run(policy: Policy, cluster: Cluster) -> Result<(), RunError> {
    let signals = Signals::receive().map_err(RunError::Signal)?;
    let mut config = client::config(&cluster.client).await?;
    // The client would retry within a call, with delays that grow to minutes. The callers retry instead.
    config.default_retry = false;
    let watching = client::client(&list_watch::config(config.clone()))?;
    let client = client::client(&config)?;
    let tasks = Tasks::default();
    start(client, watching, policy, &cluster, &tasks).await?;
    let stopped = tasks.until_stopped(signals).await;
    info!("the approver is stopping; it writes the decisions in progress, then releases the Lease");
    tasks.stop();
    if tokio::time::timeout(DRAIN, tasks.ended()).await.is_err() {
        warn!("the approver stopped before all its tasks had ended");
    }
    match stopped {
        Stopped::BySignal => Ok(()),
        Stopped::ByFailure => Err(RunError::TaskFailed),
    }
}

/// A page with every metric and every label, for the reference.
pub(crate) fn specimen_of_metrics() -> String {
    Metrics::specimen()
}

/// Connects all parts and starts them.
async fn start(
    client: Client,
    watching: Client,
    policy: Policy,
    cluster: &Cluster,
    tasks: &Tasks,
) -> Result<(), RunError> {
    let (host, random) = (host_name(), random_hex());
    let name = policy.driver_name.clone();
    let (issuers, identity) = (issuer::notes(), format!("{host}_{random}"));
    let (candidate, leadership) =
        Candidate::new(client.clone(), &cluster.lease_namespace, &name, identity, issuers.clone());
    let (queue, metrics) = (Arc::new(Queue::default()), Arc::new(Metrics::default()));
    let (synced, is_synced) = tokio::sync::watch::channel(false);
    let state = EndpointState {
        metrics: metrics.clone(),
        queue: queue.clone(),
        leadership: leadership.clone(),
        synced: is_synced,
    };
    listen(&state, cluster, tasks).await?;

    let events = Events::new(client.clone(), "svid-csi-approver", host, tasks);
    let watch = RequestWatch {
        client: watching,
        queue: queue.clone(),
        metrics: metrics.clone(),
        notices: Notices::new(events.clone()),
        leadership: leadership.clone(),
        synced,
        all: policy.auto_approve_non_spiffe,
        progress: list_watch::Progress::default(),
    };
    let place = cluster.runtime_issuer.as_ref();
    let issuer = KnownIssuers::new(client.clone(), policy.issuer.clone(), place, issuers, &metrics, tasks);
    let judge = Judge {
        client: client.clone(),
        issuer,
        pods: Pods::new(client.clone()),
        writer: Writer::new(client),
        notices: Notices::new(events),
        metrics,
        policy,
        failing: Mutex::default(),
    };
    run_tasks(tasks, watch, judge, candidate, queue, leadership);
    Ok(())
}

/// Starts the tasks. The Lease is released once the decisions have ended.
fn run_tasks(
    tasks: &Tasks,
    watch: RequestWatch,
    judge: Judge,
    candidate: Candidate,
    queue: Arc<Queue>,
    leadership: Leadership,
) {
    let issuer = judge.issuer.clone();
    let decided = CancellationToken::new();
    let until_done = decided.clone().drop_guard();
    tasks.essential("watch of certificate requests", watch.run(tasks.stopping()));
    tasks.essential("decisions", work::run(Arc::new(judge), queue.clone(), leadership, tasks.stopping(), until_done));
    tasks.essential("leader election", async move {
        candidate.run(decided).await;
        Ok::<_, std::convert::Infallible>(())
    });
    tasks.detached(async move { issuer.recall(&queue).await });
}

async fn listen(state: &EndpointState, cluster: &Cluster, tasks: &Tasks) -> Result<(), RunError> {
    if let Some(address) = cluster.probes {
        let listener = address.bind().await.map_err(|source| RunError::Probes { address, source })?;
        probes::serve(tasks, "/livez and /readyz", "/livez and /readyz", listener, state.probes());
    }
    if let Some(address) = cluster.metrics {
        match address.bind().await {
            Ok(listener) => probes::serve(tasks, "/metrics", "/metrics", listener, state.metrics()),
            Err(error) => warn!(%address, %error, "--metrics-bind-address: cannot listen; there will be no metrics"),
        }
    }
    Ok(())
}

/// The name of the machine; in a pod, the name of the pod.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = report::one_line(name.trim());
    if name.is_empty() { "approver".to_owned() } else { name }
}

/// A unique text: two containers of one pod may have the same host name.
fn random_hex() -> String {
    let mut bytes = [0; 16];
    // Without randomness no connection to the API server is possible either, which is reported there.
    let _ = rand::fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}
