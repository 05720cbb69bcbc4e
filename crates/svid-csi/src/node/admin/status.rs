//! The state of the driver's volumes, for people and metrics. It contains no secrets.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use svid_csi_core::findings::identity::outage_horizon;
use svid_csi_core::plan::{Plan, Source};
use svid_csi_core::state::{Phase, Record};
use svid_csi_core::unix_time;

use crate::delivery::workload_api::Usage;
use crate::host::clock;
use crate::node::volume::Node;
use crate::telemetry::metrics::{BrokerState, RootsState, Snapshot, SourceState};
use crate::telemetry::report;

/// How long a scrape, which is repeated soon, waits for busy volumes.
const PATIENCE_OF_SCRAPE: Duration = Duration::from_millis(10);

const ADOPTED: &str =
    "on the tmpfs of csi-driver-spiffe until the pod ends: without a size limit, and it may be swapped to disk";

/// The response of /status.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The driver's version.
    pub version: &'static str,
    /// Whether pods' sockets follow the agent's when it is re-created; absent without passthrough.
    pub socket_directory_heals: Option<bool>,
    /// Whether the volume data outlives the driver's container; absent without a data root.
    pub data_root_survives: Option<bool>,
    /// The volumes, by id.
    pub volumes: BTreeMap<String, VolumeStatus>,
    /// What volumes wait for, by id; absent for others.
    pub waiting: BTreeMap<String, String>,
    /// Whether source cert-manager is being followed; absent without it.
    pub cert_manager_up: Option<bool>,
    /// Whether the driver is connected to the agent's Broker API; absent without source broker.
    pub broker_up: Option<bool>,
    /// The roots of all nodes; absent without --local-ca-roots.
    pub local_ca_roots: Option<RootsStatus>,
    /// Why the local CA cannot be used for now; absent if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_ca_trouble: Option<String>,
    /// The number of further volumes that are currently busy.
    pub busy: usize,
}

/// The roots of all nodes.
#[derive(Debug, Serialize)]
pub struct RootsStatus {
    /// The number of nodes whose authorities are trusted, including this one.
    pub nodes: usize,
    /// Why this node and others may not trust each other.
    pub trouble: Option<String>,
}

/// One volume.
#[derive(Debug, Serialize)]
pub struct VolumeStatus {
    /// The driver name it was published with.
    pub driver: String,
    /// `source:delivery`.
    pub plan: String,
    /// `intended`, `ready` or `removing`.
    pub phase: Phase,
    /// `namespace/name` of its pod.
    pub pod: Option<String>,
    /// Its mount point.
    pub target: String,
    /// The identity it holds.
    pub spiffe_id: Option<String>,
    /// The serial number of its certificate.
    pub serial: Option<String>,
    /// The end of its validity (RFC 3339).
    pub not_after: Option<String>,
    /// Why the chain of its certificate does not lead to its trust bundle; absent if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<Box<str>>,
    /// A note on a volume taken over from csi-driver-spiffe; absent for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopted: Option<&'static str>,
    /// How the pod uses its Workload API socket; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_api: Option<Usage>,
}

/// The complete status; volumes are read one after the other.
pub async fn status(node: &Node) -> Status {
    let mut volumes = BTreeMap::new();
    let busy = node.volumes.each(|volume| {
        volumes.insert(volume.record().spec.id.to_string(), VolumeStatus::of(node, volume.record()));
    });
    Status {
        busy: busy.await,
        waiting: node.sources.waiting().into_iter().map(|(id, what)| (id.to_string(), what)).collect(),
        cert_manager_up: node.sources.cert_manager.as_ref().map(|source| source.is_up()),
        broker_up: node.sources.broker.as_ref().map(|broker| broker.is_up()),
        local_ca_trouble: node.sources.local_ca_trouble(),
        local_ca_roots: node
            .sources
            .roots()
            .map(|roots| RootsStatus { nodes: roots.nodes(), trouble: roots.trouble() }),
        version: env!("CARGO_PKG_VERSION"),
        socket_directory_heals: node.deliveries.socket_dir.as_ref().map(|socket_dir| socket_dir.heals()),
        data_root_survives: node.data.as_ref().map(|data| data.survives()),
        volumes,
    }
}

impl VolumeStatus {
    fn of(node: &Node, record: &Record) -> Self {
        let spec = &record.spec;
        let asked_for = spec.subject().and_then(|subject| subject.identity.as_ref());
        let spiffe_id = asked_for.or_else(|| record.issued.as_ref()?.spiffe_id.as_deref()).map(ToString::to_string);
        VolumeStatus {
            driver: record.driver.clone(),
            plan: spec.plan().to_string(),
            phase: record.phase,
            pod: spec.pod.as_ref().map(ToString::to_string),
            target: spec.target.path().display().to_string(),
            spiffe_id,
            serial: record.issued.as_ref().map(|issued| issued.serial.clone()),
            not_after: record.issued.as_ref().map(|issued| report::rfc3339(issued.validity.not_after)),
            untrusted: record.issued.as_ref().and_then(|issued| issued.untrusted.clone()),
            adopted: record.adopted.as_ref().map(|_| ADOPTED),
            workload_api: node.deliveries.workload_api.as_ref().and_then(|workload_api| workload_api.usage(&spec.id)),
        }
    }
}

/// The figures that are read at each scrape.
pub async fn snapshot(node: &Node) -> Snapshot {
    let mut counts: BTreeMap<(Plan, &'static str), i64> = BTreeMap::new();
    let mut ends: BTreeMap<Source, Vec<i64>> = BTreeMap::new();
    let mut untrusted = 0;
    let busy = node.volumes.each_within(PATIENCE_OF_SCRAPE, |volume| {
        let record = volume.record();
        let plan = record.spec.plan();
        *counts.entry((plan, record.phase.name())).or_default() += 1;
        if let Some(issued) = &record.issued {
            ends.entry(plan.source()).or_default().push(unix_time::seconds(issued.validity.not_after));
            untrusted += i64::from(issued.untrusted.is_some());
        }
    });
    let (busy, now) = (busy.await, clock::now());
    let agent = match &node.deliveries.socket_dir {
        Some(agent) => Some(agent.is_up().await),
        None => None,
    };
    Snapshot {
        volumes: counts.into_iter().map(|((plan, phase), count)| (plan.to_string(), phase, count)).collect(),
        busy,
        soonest_expiry: ends.iter().filter_map(|(source, ends)| Some((*source, left(ends, now)?))).collect(),
        outage_horizon: outage_horizon(ends.into_values().flatten(), now),
        untrusted,
        queued: node.later.counts(),
        agent,
        local_ca: node.sources.local_ca.as_ref().map(|local_ca| local_ca.can_sign()),
        broker: node
            .sources
            .broker
            .as_ref()
            .map(|broker| BrokerState { up: broker.is_up(), subscriptions: broker.subscriptions() }),
        room: node.deliveries.room.as_ref().and_then(|room| room.state()),
        local_ca_roots: node
            .sources
            .roots()
            .map(|roots| RootsState { nodes: roots.nodes(), in_trouble: roots.trouble().is_some() }),
        cert_manager: node.sources.cert_manager.as_ref().map(|source| {
            let (waiting_for_token, pending) = source.waiting_counts();
            SourceState { up: source.is_up(), pending, waiting_for_token }
        }),
    }
}

/// Seconds until the first of these times.
fn left(ends: &[i64], now: SystemTime) -> Option<f64> {
    let first = unix_time::at(*ends.iter().min()?)?;
    Some(match first.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(over) => -over.duration().as_secs_f64(),
    })
}

/// Renews the volumes of one pod (`namespace/name`), or all volumes, also those whose identity is missing. Returns their
/// number.
pub async fn renew(node: &Node, pod: Option<&str>) -> usize {
    let mut renewing = 0;
    let busy = node.volumes.each(|volume| {
        let of_pod = volume.record().spec.pod.as_ref().map(ToString::to_string);
        if volume.has_identity() && (pod.is_none() || pod == of_pod.as_deref()) {
            volume.renew_now.notify_one();
            renewing += 1;
        }
    });
    // A busy volume is about to get a new identity anyway.
    busy.await;
    renewing
}
