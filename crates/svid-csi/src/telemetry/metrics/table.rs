//! Every metric: its field, type, name and help text, in the order of the reference.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{
    CallLabels, CsiCallLabels, DriverLabels, DurationLabels, KindLabels, OutcomeLabels, PlanLabels, ReasonLabels,
    RenewalLabels, ResultLabels, ShareLabels, SourceLabels, VersionLabels, WorkloadApiCallLabels,
};

/// The upper ends of the buckets, in seconds: a publish without a slow source takes milliseconds, and the kubelet gives up
/// after two minutes. Few, because there is a set of them for each plan and result.
const PUBLISH: [f64; 7] = [0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0];
/// An unpublish waits for no source.
const UNPUBLISH: [f64; 4] = [0.01, 0.1, 1.0, 10.0];
/// An issuer may take hours, during an outage.
const ISSUE: [f64; 8] = [0.01, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0, 3600.0];

macro_rules! table {
    (@new $kind:ty) => { <$kind>::default() };
    (@new $kind:ty, $buckets:ident) => { <$kind>::new_with_constructor(|| Histogram::new($buckets)) };
    ($($field:ident: $kind:ty = $name:literal, $help:literal $(, $buckets:ident)?;)+) => {
        /// All metrics of the process.
        #[derive(Debug)]
        pub struct Metrics {
            pub(super) registry: Registry,
            /// Held from the first value of a snapshot to the end of its page.
            pub(super) encoding: Mutex<()>,
            $(pub(super) $field: $kind,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("svid_csi");
                $(
                    let $field = table!(@new $kind $(, $buckets)?);
                    registry.register($name, $help, $field.clone());
                )+
                Self { registry, encoding: Mutex::default(), $($field),+ }
            }
        }
    };
}

table! {
    build_info: Family<VersionLabels, Gauge> =
        "build_info",
        "1, with the version of the driver";
    calls: Family<CsiCallLabels, Counter> =
        "csi_calls",
        "CSI calls by method and gRPC code";
    calls_in_flight: Family<CallLabels, Gauge> =
        "csi_calls_in_flight",
        "CSI calls that are not answered yet";
    publish_duration: Family<DurationLabels, Histogram> =
        "publish_duration_seconds",
        "How long NodePublishVolume took, by plan and result: ok, unchanged (was published already), or who has to act on the failure: caller, source, node",
        PUBLISH;
    unpublish_duration: Family<DurationLabels, Histogram> =
        "unpublish_duration_seconds",
        "How long NodeUnpublishVolume took, by plan (unknown: there was no such volume) and result, as for publishes",
        UNPUBLISH;
    issue_duration: Family<SourceLabels, Histogram> =
        "issue_duration_seconds",
        "Time from the first request for an identity of a volume until it was issued and accepted, over all attempts; pushed identities do not count",
        ISSUE;
    issued: Counter =
        "identities_issued",
        "Identities delivered to pods";
    renewals: Family<RenewalLabels, Counter> =
        "renewals",
        "Ended renewals of an identity or of the tokens in files, by source and outcome: renewed, unchanged, withdrawn, or failed (the sum of these is renewal_failures)";
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
        "1 if the driver is receiving updates from the source; socket: if the agent accepts connections; local-ca: if its CA has not expired";
    watch_restarts: Family<KindLabels, Counter> =
        "watch_restarts",
        "Watches of the API server that broke and were established again, by the kind of object";
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
    recoveries: Family<ResultLabels, Counter> =
        "recoveries",
        "Volumes of the previous run that were found at startup, by result: served, awaits_publish, removed, left_alone (retried later)";
    volumes_queued: Family<ReasonLabels, Gauge> =
        "volumes_queued",
        "Volumes that will be checked again, by reason: retry (recovery or removal failed, or the volume was busy), unpublished (a publish failed; removed unless the kubelet publishes them again)";
    agent_directory_undone: Counter =
        "agent_directory_changes_undone",
        "Changes that pods made to the directory of the agent's sockets and that the driver reverted";
    registered: Family<DriverLabels, Gauge> =
        "registered",
        "1 if the kubelet has accepted the driver's registration";
    volumes: Family<PlanLabels, Gauge> =
        "volumes",
        "Volumes by plan and phase";
    volumes_busy: Gauge =
        "volumes_busy",
        "Volumes that were being worked on during the scrape, which the other figures about volumes lack";
    untrusted: Gauge =
        "volumes_not_trusted",
        "Volumes with a certificate whose chain does not lead to their trust bundle";
    soonest_expiry: Gauge<f64, AtomicU64> =
        "soonest_expiry_seconds",
        "Seconds until the first certificate in use expires; negative if one has expired";
    source_soonest_expiry: Family<SourceLabels, Gauge<f64, AtomicU64>> =
        "source_soonest_expiry_seconds",
        "Seconds until the first certificate in use of the source expires; negative if one has expired";
    outage_horizon: Family<ShareLabels, Gauge<f64, AtomicU64>> =
        "outage_horizon_seconds",
        "Seconds until the first volume, or half of all, would be without a valid identity if every source failed now";
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
    spans_dropped: Counter =
        "spans_dropped",
        "Spans that were not sent to the collector of --otlp-endpoint, because it cannot be reached, refuses them or is too slow, or because the driver stopped; the log has the reason";
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
