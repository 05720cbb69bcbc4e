//! Values that are read for each scrape.

use std::collections::BTreeMap;
use std::time::Duration;

use svid_csi_core::plan::Source;

use super::Metrics;
use super::labels::{PlanLabels, ReasonLabels, ShareLabels, SourceLabels, VersionLabels};

/// The state of the volumes at the time of the scrape.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The number of volumes of each plan and phase.
    pub volumes: Vec<(String, &'static str, i64)>,
    /// The number of volumes that are busy, and missing in the other values.
    pub busy: usize,
    /// Seconds until the first certificate in use of each source expires; negative if one has expired.
    pub soonest_expiry: BTreeMap<Source, f64>,
    /// When the first volume, and half of them, would be without an identity.
    pub outage_horizon: Option<(Duration, Duration)>,
    /// The volumes that are checked again.
    pub queued: QueueState,
    /// Whether an agent is reached through the directory of its sockets, if the driver has one.
    pub agent: Option<bool>,
    /// Whether the local CA can sign, if the driver has one.
    pub local_ca: Option<bool>,
    /// The number of volumes with a certificate whose chain does not lead to their trust bundle.
    pub untrusted: i64,
    /// The state of the source cert-manager, if the driver has it.
    pub cert_manager: Option<SourceState>,
    /// The state of the source broker, if the driver has it.
    pub broker: Option<BrokerState>,
    /// The space that all volumes share, if there is a data root.
    pub room: Option<RoomState>,
    /// The state of the roots of all nodes, if the driver reads them.
    pub local_ca_roots: Option<RootsState>,
}

/// The volumes that are checked again.
#[derive(Debug, Default)]
pub struct QueueState {
    /// Those whose recovery or removal failed.
    pub retry: usize,
    /// Those that are removed unless the kubelet publishes them.
    pub unpublished: usize,
}

/// The space that all volumes of the node share, in bytes.
#[derive(Debug)]
pub struct RoomState {
    /// The total.
    pub size: u64,
    /// The used part.
    pub used: u64,
    /// The part reserved for volumes that are already published.
    pub reserve: u64,
}

/// The state of the roots of all nodes.
#[derive(Debug)]
pub struct RootsState {
    /// The number of nodes whose authorities are trusted.
    pub nodes: usize,
    /// Whether some nodes may not trust each other.
    pub in_trouble: bool,
}

/// The state of the source broker.
#[derive(Debug)]
pub struct BrokerState {
    /// Whether the driver is connected.
    pub up: bool,
    /// The number of followed pods.
    pub subscriptions: usize,
}

/// The state of a source.
#[derive(Debug)]
pub struct SourceState {
    /// Whether the driver receives updates.
    pub up: bool,
    /// The number of volumes that wait for their request.
    pub pending: usize,
    /// The number of volumes that wait for a token from the kubelet.
    pub waiting_for_token: usize,
}

impl Metrics {
    /// Sets the values of this scrape.
    pub(super) fn set(&self, snapshot: &Snapshot) {
        self.build_info.get_or_create(&VersionLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        self.set_volumes(snapshot);
        self.set_expiry(snapshot);
        self.set_sources(snapshot);
        if let Some(RoomState { size, used, reserve }) = &snapshot.room {
            for (gauge, bytes) in [(&self.data_size, size), (&self.data_used, used), (&self.data_reserve, reserve)] {
                gauge.set(i64::try_from(*bytes).unwrap_or(i64::MAX));
            }
        }
    }

    fn set_volumes(&self, snapshot: &Snapshot) {
        self.volumes.clear();
        for (plan, phase, count) in &snapshot.volumes {
            self.volumes.get_or_create(&PlanLabels { plan: plan.clone(), phase }).set(*count);
        }
        self.volumes_busy.set(number(snapshot.busy));
        let QueueState { retry, unpublished } = snapshot.queued;
        for (reason, count) in [("retry", retry), ("unpublished", unpublished)] {
            self.volumes_queued.get_or_create(&ReasonLabels { reason }).set(number(count));
        }
        self.untrusted.set(snapshot.untrusted);
    }

    fn set_expiry(&self, snapshot: &Snapshot) {
        self.soonest_expiry.set(snapshot.soonest_expiry.values().copied().fold(f64::INFINITY, f64::min));
        self.source_soonest_expiry.clear();
        for (source, seconds) in &snapshot.soonest_expiry {
            self.source_soonest_expiry.get_or_create(&SourceLabels { source: source.name() }).set(*seconds);
        }
        let (first, half) = snapshot.outage_horizon.unzip();
        for (share, horizon) in [("first", first), ("half", half)] {
            let seconds = horizon.map_or(f64::INFINITY, |horizon| horizon.as_secs_f64());
            self.outage_horizon.get_or_create(&ShareLabels { share }).set(seconds);
        }
    }

    fn set_sources(&self, snapshot: &Snapshot) {
        let up = [
            (Source::Socket, snapshot.agent),
            (Source::Broker, snapshot.broker.as_ref().map(|broker| broker.up)),
            (Source::CertManager, snapshot.cert_manager.as_ref().map(|source| source.up)),
            (Source::LocalCa, snapshot.local_ca),
        ];
        for (source, up) in up {
            if let Some(up) = up {
                self.source_up.get_or_create(&SourceLabels { source: source.name() }).set(up.into());
            }
        }
        if let Some(source) = &snapshot.cert_manager {
            self.requests_pending.set(number(source.pending));
            self.waiting_for_token.set(number(source.waiting_for_token));
        }
        if let Some(broker) = &snapshot.broker {
            self.broker_subscriptions.set(number(broker.subscriptions));
        }
        if let Some(roots) = &snapshot.local_ca_roots {
            self.local_ca_roots.set(number(roots.nodes));
            self.local_ca_roots_in_trouble.set(roots.in_trouble.into());
        }
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
