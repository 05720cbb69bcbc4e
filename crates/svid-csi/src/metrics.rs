//! What the driver counts. No label carries a volume or a pod, so their number does not grow with the pods.

mod snapshot;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tonic::Code;

pub use self::snapshot::{BrokerState, RoomState, RootsState, Snapshot, SourceState};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<Call, Counter>,
    workload_api_calls: Family<WorkloadApiCall, Counter>,
    workload_api_connections: Gauge,
    workload_api_refused: Counter,
    workload_api_refused_calls: Counter,
    issued: Counter,
    renewal_failures: Counter,
    requests: Family<Ended, Counter>,
    identities_refused: Counter,
    broker_connections: Counter,
    broker_subscriptions: Gauge,
    source_up: Family<Source, Gauge>,
    requests_pending: Gauge,
    waiting_for_token: Gauge,
    local_ca_roots: Gauge,
    local_ca_roots_in_trouble: Gauge,
    abnormal: Counter,
    changes: Counter,
    left_alone: Gauge,
    refused_for_room: Counter,
    data_size: Gauge,
    data_used: Gauge,
    data_reserve: Gauge,
    agent_directory_undone: Counter,
    registered: Family<Driver, Gauge>,
    volumes: Family<Plan, Gauge>,
    untrusted: Gauge,
    soonest_expiry: Gauge<f64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    call: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkloadApiCall {
    method: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Driver {
    driver: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plan {
    plan: String,
    phase: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("svid_csi"),
            calls: Family::default(),
            workload_api_calls: Family::default(),
            workload_api_connections: Gauge::default(),
            workload_api_refused: Counter::default(),
            workload_api_refused_calls: Counter::default(),
            issued: Counter::default(),
            renewal_failures: Counter::default(),
            requests: Family::default(),
            identities_refused: Counter::default(),
            broker_connections: Counter::default(),
            broker_subscriptions: Gauge::default(),
            source_up: Family::default(),
            requests_pending: Gauge::default(),
            waiting_for_token: Gauge::default(),
            local_ca_roots: Gauge::default(),
            local_ca_roots_in_trouble: Gauge::default(),
            abnormal: Counter::default(),
            changes: Counter::default(),
            left_alone: Gauge::default(),
            refused_for_room: Counter::default(),
            data_size: Gauge::default(),
            data_used: Gauge::default(),
            data_reserve: Gauge::default(),
            agent_directory_undone: Counter::default(),
            registered: Family::default(),
            volumes: Family::default(),
            untrusted: Gauge::default(),
            soonest_expiry: Gauge::default(),
        };
        metrics.register();
        metrics.register_local_ca();
        metrics.register_workload_api();
        metrics.register_room();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("csi_calls", "CSI calls by method and gRPC code", self.calls.clone());
        registry.register("identities_issued", "Identities handed to pods", self.issued.clone());
        registry.register(
            "renewal_failures",
            "Renewals that failed; the volume keeps its last identity",
            self.renewal_failures.clone(),
        );
        registry.register("certificate_requests", "Certificate requests by what became of them", self.requests.clone());
        registry.register(
            "identities_refused",
            "Identities that a source gave and that break a rule; the volume keeps its last identity",
            self.identities_refused.clone(),
        );
        registry.register(
            "broker_connections",
            "Connections made to the agent's Broker API: one, and one more after each loss and each new SVID of the driver",
            self.broker_connections.clone(),
        );
        registry.register(
            "broker_subscriptions",
            "Pods that the agent is asked for",
            self.broker_subscriptions.clone(),
        );
        registry.register("source_up", "1 when what the source tells is being followed", self.source_up.clone());
        registry.register(
            "requests_pending",
            "Volumes that wait for their certificate request to be approved and signed",
            self.requests_pending.clone(),
        );
        registry.register(
            "volumes_waiting_for_token",
            "Volumes that wait for the kubelet to bring a fresh service account token",
            self.waiting_for_token.clone(),
        );
        registry.register(
            "abnormal_volumes_seen",
            "Answers to NodeGetVolumeStats that reported an abnormal volume",
            self.abnormal.clone(),
        );
        registry.register(
            "changed_volumes_seen",
            "How often a volume was found changed by its pod, or by somebody on the node",
            self.changes.clone(),
        );
        registry.register(
            "volumes_left_alone",
            "Volumes that could not be taken up after the last start; the log names them",
            self.left_alone.clone(),
        );
        registry.register(
            "agent_directory_changes_undone",
            "Changes that pods made to the directory of the agent's sockets and that were put right",
            self.agent_directory_undone.clone(),
        );
        registry.register(
            "registered",
            "1 when the kubelet has accepted the driver's registration",
            self.registered.clone(),
        );
        registry.register("volumes", "Volumes by plan and phase", self.volumes.clone());
        registry.register(
            "volumes_not_trusted",
            "Volumes with a certificate whose chain does not lead to their trust bundle",
            self.untrusted.clone(),
        );
        registry.register(
            "soonest_expiry_seconds",
            "Seconds until the first certificate in use expires; negative when one has",
            self.soonest_expiry.clone(),
        );
    }

    fn register_local_ca(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "local_ca_roots",
            "Nodes whose local CA is trusted on this one, with --local-ca-roots; this node is one of them",
            self.local_ca_roots.clone(),
        );
        registry.register(
            "local_ca_roots_in_trouble",
            "1 while nodes may not trust each other: the ConfigMap of --local-ca-roots, or an entry of it, cannot be read or written; /status says why",
            self.local_ca_roots_in_trouble.clone(),
        );
    }

    fn register_workload_api(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "workload_api_calls",
            "Calls of pods to their Workload API socket by method and gRPC code; a stream counts when it begins",
            self.workload_api_calls.clone(),
        );
        registry.register(
            "workload_api_connections",
            "Connections of pods to their Workload API sockets",
            self.workload_api_connections.clone(),
        );
        registry.register(
            "workload_api_refused_connections",
            "Connections to Workload API sockets that were refused because the pod, or all pods of the node, have too many",
            self.workload_api_refused.clone(),
        );
        registry.register(
            "workload_api_refused_calls",
            "Calls on Workload API sockets that were refused because the pod, or all pods of the node, have too many or too large ones open",
            self.workload_api_refused_calls.clone(),
        );
    }

    fn register_room(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "publishes_refused_for_room",
            "Publishes that were refused because there is no room on the tmpfs, or the pod or namespace has its share",
            self.refused_for_room.clone(),
        );
        registry.register(
            "volume_data_size_bytes",
            "Size of the tmpfs that all volumes of the node share",
            self.data_size.clone(),
        );
        registry.register("volume_data_used_bytes", "What is used of that tmpfs", self.data_used.clone());
        registry.register(
            "volume_data_reserve_bytes",
            "What is kept back of that tmpfs for volumes that are published already",
            self.data_reserve.clone(),
        );
    }

    /// A publish was refused for want of room.
    pub fn refused_for_room(&self) {
        self.refused_for_room.inc();
    }

    /// A call was answered.
    pub fn called(&self, call: &'static str, code: Code) {
        self.calls.get_or_create(&Call { call, code: format!("{code:?}") }).inc();
    }

    /// A call of a pod was answered.
    pub fn workload_api_called(&self, method: &'static str, code: Code) {
        self.workload_api_calls.get_or_create(&WorkloadApiCall { method, code: format!("{code:?}") }).inc();
    }

    /// A pod has connected to its socket.
    pub fn workload_api_connected(&self) {
        self.workload_api_connections.inc();
    }

    /// A connection of a pod has ended.
    pub fn workload_api_disconnected(&self) {
        self.workload_api_connections.dec();
    }

    /// A pod had too many connections.
    pub fn workload_api_refused(&self) {
        self.workload_api_refused.inc();
    }

    /// A pod had too many calls, or too many bytes on their way.
    pub fn workload_api_refused_call(&self) {
        self.workload_api_refused_calls.inc();
    }

    /// An identity was handed to a pod.
    pub fn issued(&self) {
        self.issued.inc();
    }

    /// A renewal failed.
    pub fn renewal_failed(&self) {
        self.renewal_failures.inc();
    }

    /// A certificate request has ended, or was not made.
    pub fn request_ended(&self, outcome: &'static str) {
        self.requests.get_or_create(&Ended { outcome }).inc();
    }

    /// An identity that a source gave breaks a rule.
    pub fn identity_refused(&self) {
        self.identities_refused.inc();
    }

    /// The driver has connected to the agent's Broker API.
    pub fn broker_connected(&self) {
        self.broker_connections.inc();
    }

    /// A volume was found changed by somebody else.
    pub fn change_seen(&self) {
        self.changes.inc();
    }

    /// A volume was reported abnormal.
    pub fn abnormal_seen(&self) {
        self.abnormal.inc();
    }

    /// A volume could not be taken up, or is no longer left alone.
    pub fn left_alone(&self, is_left_alone: bool) {
        self.left_alone.inc_by(if is_left_alone { 1 } else { -1 });
    }

    /// So many names in the directory of the agent's sockets were put right.
    pub fn agent_directory_put_right(&self, names: usize) {
        self.agent_directory_undone.inc_by(u64::try_from(names).unwrap_or(u64::MAX));
    }

    /// The kubelet accepted or refused a registration.
    pub fn registered(&self, driver: &str, accepted: bool) {
        self.registered.get_or_create(&Driver { driver: driver.to_owned() }).set(accepted.into());
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self, snapshot: &Snapshot) -> String {
        self.volumes.clear();
        for (plan, phase, count) in &snapshot.volumes {
            self.volumes.get_or_create(&Plan { plan: plan.clone(), phase }).set(*count);
        }
        if let Some(source) = &snapshot.cert_manager {
            self.source_up.get_or_create(&Source { source: "cert-manager" }).set(source.up.into());
            self.requests_pending.set(i64::try_from(source.pending).unwrap_or(i64::MAX));
            self.waiting_for_token.set(i64::try_from(source.waiting_for_token).unwrap_or(i64::MAX));
        }
        if let Some(broker) = &snapshot.broker {
            self.source_up.get_or_create(&Source { source: "broker" }).set(broker.up.into());
            self.broker_subscriptions.set(i64::try_from(broker.subscriptions).unwrap_or(i64::MAX));
        }
        if let Some(roots) = &snapshot.local_ca_roots {
            self.local_ca_roots.set(i64::try_from(roots.nodes).unwrap_or(i64::MAX));
            self.local_ca_roots_in_trouble.set(roots.in_trouble.into());
        }
        if let Some(RoomState { size, used, reserve }) = &snapshot.room {
            for (gauge, bytes) in [(&self.data_size, size), (&self.data_used, used), (&self.data_reserve, reserve)] {
                gauge.set(i64::try_from(*bytes).unwrap_or(i64::MAX));
            }
        }
        self.untrusted.set(snapshot.untrusted);
        self.soonest_expiry.set(snapshot.soonest_expiry.unwrap_or(f64::INFINITY));
        let mut page = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }

    /// A page on which every metric stands with every label it has, for the reference.
    pub(crate) fn specimen() -> String {
        let metrics = Self::default();
        metrics.called("NodePublishVolume", Code::Ok);
        metrics.workload_api_called("FetchX509SVID", Code::Ok);
        metrics.request_ended("issued");
        metrics.registered("csi.spiffe.io", true);
        let broker = Some(BrokerState { up: true, subscriptions: 1 });
        metrics.encode(&Snapshot {
            volumes: vec![("broker:files".to_owned(), "ready", 1)],
            broker,
            ..Snapshot::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_stands_in_the_reference() {
        let registered = format!("{:?}", Metrics::default().registry).matches("Descriptor {").count();
        assert!(registered > 10);
        assert_eq!(
            Metrics::specimen().matches("# TYPE ").count(),
            registered,
            "specimen() must set a value of each family"
        );
    }
}
