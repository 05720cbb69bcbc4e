//! The driver's metrics. No label contains a volume or a pod, so their number does not grow with the pods.

mod labels;
mod snapshot;
mod table;

use prometheus_client::encoding::text;
use tonic::Code;

use self::labels::{CsiCallLabels, DriverLabels, OutcomeLabels, PlanLabels, SourceLabels, WorkloadApiCallLabels};
pub use self::snapshot::{BrokerState, RoomState, RootsState, Snapshot, SourceState};
pub use self::table::Metrics;

impl Metrics {
    /// Counts a publish that was refused because the tmpfs is full.
    pub fn refused_for_room(&self) {
        self.refused_for_room.inc();
    }

    /// Counts an answered call.
    pub fn called(&self, call: &'static str, code: Code) {
        self.calls.get_or_create(&CsiCallLabels { call, code: format!("{code:?}") }).inc();
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

    /// Counts a failed renewal.
    pub fn renewal_failed(&self) {
        self.renewal_failures.inc();
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
        self.volumes.clear();
        for (plan, phase, count) in &snapshot.volumes {
            self.volumes.get_or_create(&PlanLabels { plan: plan.clone(), phase }).set(*count);
        }
        if let Some(source) = &snapshot.cert_manager {
            self.source_up.get_or_create(&SourceLabels { source: "cert-manager" }).set(source.up.into());
            self.requests_pending.set(i64::try_from(source.pending).unwrap_or(i64::MAX));
            self.waiting_for_token.set(i64::try_from(source.waiting_for_token).unwrap_or(i64::MAX));
        }
        if let Some(broker) = &snapshot.broker {
            self.source_up.get_or_create(&SourceLabels { source: "broker" }).set(broker.up.into());
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

    /// A page with every metric and every label, for the reference.
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
    fn every_metric_is_in_the_reference() {
        let registered = format!("{:?}", Metrics::default().registry).matches("Descriptor {").count();
        assert!(registered > 10);
        assert_eq!(
            Metrics::specimen().matches("# TYPE ").count(),
            registered,
            "specimen() must set a value of each family"
        );
    }
}
