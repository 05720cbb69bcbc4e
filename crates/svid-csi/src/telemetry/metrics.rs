//! The driver's metrics. No label contains a volume or a pod, so their number does not grow with the pods.

mod call;
mod labels;
mod snapshot;
mod table;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use svid_csi_core::plan::Source;
use tonic::Code;

pub use self::call::{CallResult, CsiCall, OpenCall};
use self::labels::{
    DriverLabels, KindLabels, OutcomeLabels, RenewalLabels, ResultLabels, SourceLabels, WorkloadApiCallLabels,
};
pub use self::snapshot::{BrokerState, QueueState, RoomState, RootsState, Snapshot, SourceState};
pub use self::table::Metrics;

/// How a renewal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalResult {
    /// The volume has another identity, or other tokens.
    Renewed,
    /// The source sent again what the volume has.
    Unchanged,
    /// The source withdrew the identity.
    Withdrawn,
    /// The volume keeps what it has.
    Failed,
}

impl RenewalResult {
    fn name(self) -> &'static str {
        match self {
            RenewalResult::Renewed => "renewed",
            RenewalResult::Unchanged => "unchanged",
            RenewalResult::Withdrawn => "withdrawn",
            RenewalResult::Failed => "failed",
        }
    }
}

impl Metrics {
    /// Counts spans that were not sent.
    pub fn spans_dropped(&self, number: u64) {
        self.spans_dropped.inc_by(number);
    }

    /// Counts a publish that was refused because the tmpfs is full.
    pub fn refused_for_room(&self) {
        self.refused_for_room.inc();
    }

    /// Counts an answered call of a pod.
    pub fn workload_api_called(&self, method: &'static str, code: Code) {
        self.workload_api_calls.get_or_create(&WorkloadApiCallLabels { method, code: format!("{code:?}") }).inc();
    }

    /// Counts a connection that a pod opened to its socket.
    pub fn workload_api_connected(&self) {
        self.workload_api_connections.inc();
    }

    /// Counts a connection of a pod that ended.
    pub fn workload_api_disconnected(&self) {
        self.workload_api_connections.dec();
    }

    /// Counts a connection that was refused because the pod has too many.
    pub fn workload_api_refused(&self) {
        self.workload_api_refused.inc();
    }

    /// Counts a call that was refused because the pod has too many calls, or too many bytes in transit.
    pub fn workload_api_refused_call(&self) {
        self.workload_api_refused_calls.inc();
    }

    /// Counts an identity that was delivered to a pod.
    pub fn issued(&self) {
        self.issued.inc();
    }

    /// Records how long a volume waited for an identity.
    pub fn issued_after(&self, source: Source, waited: Duration) {
        self.issue_duration.get_or_create(&SourceLabels { source: source.name() }).observe(waited.as_secs_f64());
    }

    /// Counts an ended renewal of `renewed`, which is `identity` or `tokens`.
    pub fn renewal_ended(&self, source: Source, renewed: &'static str, outcome: RenewalResult) {
        if outcome == RenewalResult::Failed {
            self.renewal_failures.inc();
        }
        let labels = RenewalLabels { source: source.name(), renewed, outcome: outcome.name() };
        self.renewals.get_or_create(&labels).inc();
    }

    /// Counts volumes that were recovered with that result at startup.
    pub fn recovered(&self, result: &'static str, volumes: usize) {
        let recovered = self.recoveries.get_or_create(&ResultLabels { result });
        recovered.inc_by(u64::try_from(volumes).unwrap_or(u64::MAX));
    }

    /// The counter for the watches of that kind of object that break and are established again.
    pub fn watch_restarts(&self, kind: &'static str) -> Counter {
        self.watch_restarts.get_or_create(&KindLabels { kind }).clone()
    }

    /// Counts a certificate request that has ended, or was not created.
    pub fn request_ended(&self, outcome: &'static str) {
        self.requests.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts an identity from a source that breaks a rule.
    pub fn identity_refused(&self) {
        self.identities_refused.inc();
    }

    /// Counts a connection to the agent's Broker API.
    pub fn broker_connected(&self) {
        self.broker_connections.inc();
    }

    /// Counts a volume that another process has changed.
    pub fn change_seen(&self) {
        self.changes.inc();
    }

    /// Counts a volume that was reported as abnormal.
    pub fn abnormal_seen(&self) {
        self.abnormal.inc();
    }

    /// Counts a volume that could not be recovered, or discounts one that is recovered later.
    pub fn left_alone(&self, is_left_alone: bool) {
        self.left_alone.inc_by(if is_left_alone { 1 } else { -1 });
    }

    /// Counts names in the directory of the agent's sockets whose changes the driver reverted.
    pub fn agent_directory_put_right(&self, names: usize) {
        self.agent_directory_undone.inc_by(u64::try_from(names).unwrap_or(u64::MAX));
    }

    /// Records whether the kubelet accepted the registration.
    pub fn registered(&self, driver: &str, accepted: bool) {
        self.registered.get_or_create(&DriverLabels { driver: driver.to_owned() }).set(accepted.into());
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self, snapshot: &Snapshot) -> String {
        let _turn = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(snapshot);
        let mut page = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }

    /// A page with every metric and every label, for the reference.
    pub(crate) fn specimen() -> String {
        let metrics = Arc::new(Self::default());
        for call in [CsiCall::Publish, CsiCall::Unpublish] {
            metrics.begin(call).end(CallResult::Ok, Code::Ok);
        }
        metrics.workload_api_called("FetchX509SVID", Code::Ok);
        metrics.issued_after(Source::Broker, Duration::ZERO);
        metrics.renewal_ended(Source::Broker, "identity", RenewalResult::Renewed);
        metrics.recovered("served", 0);
        metrics.watch_restarts("CertificateRequest");
        metrics.request_ended("issued");
        metrics.registered("csi.spiffe.io", true);
        metrics.encode(&Snapshot {
            volumes: vec![("broker:files".to_owned(), "ready", 1)],
            soonest_expiry: [(Source::Broker, 1.0)].into(),
            broker: Some(BrokerState { up: true, subscriptions: 1 }),
            ..Snapshot::default()
        })
    }
}

#[cfg(test)]
mod tests;
