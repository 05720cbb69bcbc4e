//! Every metric: its field, type, name and help text, in the order of the reference.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{CsiCallLabels, DriverLabels, OutcomeLabels, PlanLabels, SourceLabels, WorkloadApiCallLabels};

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
    calls: Family<CsiCallLabels, Counter> =
        "csi_calls",
        "CSI calls by method and gRPC code";
    issued: Counter =
        "identities_issued",
        "Identities delivered to pods";
    renewal_failures: Counter =
        "renewal_failures",
        "Renewals that failed; the volume keeps its last identity";
    requests: Family<OutcomeLabels, Counter> =
        "certificate_requests",
        "Certificate requests by outcome";
    identities_refused: Counter =
        "identities_refused",
        "Identities from a source that break a rule and were refused; the volume keeps its last identity";
    broker_connections: Counter =
        "broker_connections",
        "Connections made to the agent's Broker API: the first, and one after each lost connection and each new SVID of the driver";
    broker_subscriptions: Gauge =
        "broker_subscriptions",
        "Pods whose identities the driver requests from the agent";
    source_up: Family<SourceLabels, Gauge> =
        "source_up",
        "1 if the driver is receiving updates from the source";
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
        "How often the driver found that a volume had been changed by its pod, or by another process on the node";
    left_alone: Gauge =
        "volumes_left_alone",
        "Volumes that could not be recovered at the last startup; the log names them";
    agent_directory_undone: Counter =
        "agent_directory_changes_undone",
        "Changes that pods made to the directory of the agent's sockets and that the driver reverted";
    registered: Family<DriverLabels, Gauge> =
        "registered",
        "1 if the kubelet has accepted the driver's registration";
    volumes: Family<PlanLabels, Gauge> =
        "volumes",
        "Volumes by plan and phase";
    untrusted: Gauge =
        "volumes_not_trusted",
        "Volumes with a certificate whose chain does not lead to their trust bundle";
    soonest_expiry: Gauge<f64, AtomicU64> =
        "soonest_expiry_seconds",
        "Seconds until the first certificate in use expires; negative if one has expired";
    local_ca_roots: Gauge =
        "local_ca_roots",
        "Nodes whose local CA this node trusts, itself included, with --local-ca-roots";
    local_ca_roots_in_trouble: Gauge =
        "local_ca_roots_in_trouble",
        "1 while nodes possibly do not trust each other: the ConfigMap of --local-ca-roots, or an entry of it, cannot be read or written; /status says why";
    workload_api_calls: Family<WorkloadApiCallLabels, Counter> =
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
        "Publishes that were refused because the tmpfs is full, or the pod or namespace has used its share";
    data_size: Gauge =
        "volume_data_size_bytes",
        "Size of the tmpfs that all volumes of the node share";
    data_used: Gauge =
        "volume_data_used_bytes",
        "Used space on the tmpfs that all volumes of the node share";
    data_reserve: Gauge =
        "volume_data_reserve_bytes",
        "Space on the tmpfs of all volumes that is reserved for volumes already published";
}
