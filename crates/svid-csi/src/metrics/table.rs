//! Every metric: its field, its type, its name and what it says, in the order of the reference.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{Call, Driver, Ended, Plan, Source, WorkloadApiCall};

macro_rules! table {
    ($($field:ident: $kind:ty = $name:literal, $help:literal;)+) => {
        /// All metrics of the process.
        #[derive(Debug)]
        pub struct Metrics {
            pub(super) registry: Registry,
            $(pub(super) $field: $kind,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("svid_csi");
                $(
                    let $field = <$kind>::default();
                    registry.register($name, $help, $field.clone());
                )+
                Self { registry, $($field),+ }
            }
        }
    };
}

table! {
    calls: Family<Call, Counter> =
        "csi_calls",
        "CSI calls by method and gRPC code";
    issued: Counter =
        "identities_issued",
        "Identities handed to pods";
    renewal_failures: Counter =
        "renewal_failures",
        "Renewals that failed; the volume keeps its last identity";
    requests: Family<Ended, Counter> =
        "certificate_requests",
        "Certificate requests by what became of them";
    identities_refused: Counter =
        "identities_refused",
        "Identities that a source gave and that break a rule; the volume keeps its last identity";
    broker_connections: Counter =
        "broker_connections",
        "Connections made to the agent's Broker API: one, and one more after each loss and each new SVID of the driver";
    broker_subscriptions: Gauge =
        "broker_subscriptions",
        "Pods that the agent is asked for";
    source_up: Family<Source, Gauge> =
        "source_up",
        "1 when what the source tells is being followed";
    requests_pending: Gauge =
        "requests_pending",
        "Volumes that wait for their certificate request to be approved and signed";
    waiting_for_token: Gauge =
        "volumes_waiting_for_token",
        "Volumes that wait for the kubelet to bring a fresh service account token";
    abnormal: Counter =
        "abnormal_volumes_seen",
        "Answers to NodeGetVolumeStats that reported an abnormal volume";
    changes: Counter =
        "changed_volumes_seen",
        "How often a volume was found changed by its pod, or by somebody on the node";
    left_alone: Gauge =
        "volumes_left_alone",
        "Volumes that could not be taken up after the last start; the log names them";
    agent_directory_undone: Counter =
        "agent_directory_changes_undone",
        "Changes that pods made to the directory of the agent's sockets and that were put right";
    registered: Family<Driver, Gauge> =
        "registered",
        "1 when the kubelet has accepted the driver's registration";
    volumes: Family<Plan, Gauge> =
        "volumes",
        "Volumes by plan and phase";
    untrusted: Gauge =
        "volumes_not_trusted",
        "Volumes with a certificate whose chain does not lead to their trust bundle";
    soonest_expiry: Gauge<f64, AtomicU64> =
        "soonest_expiry_seconds",
        "Seconds until the first certificate in use expires; negative when one has";
    local_ca_roots: Gauge =
        "local_ca_roots",
        "Nodes whose local CA is trusted on this one, with --local-ca-roots; this node is one of them";
    local_ca_roots_in_trouble: Gauge =
        "local_ca_roots_in_trouble",
        "1 while nodes may not trust each other: the ConfigMap of --local-ca-roots, or an entry of it, cannot be read or written; /status says why";
    workload_api_calls: Family<WorkloadApiCall, Counter> =
        "workload_api_calls",
        "Calls of pods to their Workload API socket by method and gRPC code; a stream counts when it begins";
    workload_api_connections: Gauge =
        "workload_api_connections",
        "Connections of pods to their Workload API sockets";
    workload_api_refused: Counter =
        "workload_api_refused_connections",
        "Connections to Workload API sockets that were refused because the pod, or all pods of the node, have too many";
    workload_api_refused_calls: Counter =
        "workload_api_refused_calls",
        "Calls on Workload API sockets that were refused because the pod, or all pods of the node, have too many or too large ones open";
    refused_for_room: Counter =
        "publishes_refused_for_room",
        "Publishes that were refused because there is no room on the tmpfs, or the pod or namespace has its share";
    data_size: Gauge =
        "volume_data_size_bytes",
        "Size of the tmpfs that all volumes of the node share";
    data_used: Gauge =
        "volume_data_used_bytes",
        "What is used of that tmpfs";
    data_reserve: Gauge =
        "volume_data_reserve_bytes",
        "What is kept back of that tmpfs for volumes that are published already";
}
