//! The approver's metrics. No label contains the name of an object, so their number does not grow with the cluster.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use svid_csi_core::approve::Verdict;

/// All metrics of the process.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    decisions: Family<Decision, Counter>,
    /// The time from when a request was first seen until its decision was written.
    seconds: Histogram,
    pub(super) denials_forbidden: Counter,
    pub(super) approvals_forbidden: Counter,
    pub(super) failures: Counter,
    pub(super) approved_by_another: Counter,
    pub(super) watch_failures: Counter,
    pub(super) watch_restarts: Counter,
    pending: Gauge,
    leading: Gauge,
    synced: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    decision: &'static str,
    reason: &'static str,
}

/// The values at the time of the scrape.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScrapedValues {
    pub(super) pending: usize,
    pub(super) is_leading: bool,
    pub(super) is_synced: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("svid_csi_approver"),
            decisions: Family::default(),
            // 5 ms to 80 s.
            seconds: Histogram::new(exponential_buckets(0.005, 2.0, 15)),
            denials_forbidden: Counter::default(),
            approvals_forbidden: Counter::default(),
            failures: Counter::default(),
            approved_by_another: Counter::default(),
            watch_failures: Counter::default(),
            watch_restarts: Counter::default(),
            pending: Gauge::default(),
            leading: Gauge::default(),
            synced: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "decisions",
            "Decided requests, by decision; denials also by the class of the first rule that the request breaks",
            self.decisions.clone(),
        );
        registry.register(
            "decision_seconds",
            "Time from when a request was first seen until its decision was written",
            self.seconds.clone(),
        );
        let counters = [
            (
                "denials_forbidden",
                "Denials that the API server or cert-manager's webhook refused",
                &self.denials_forbidden,
            ),
            (
                "approvals_forbidden",
                "Approvals that the API server or cert-manager's webhook refused",
                &self.approvals_forbidden,
            ),
            ("failures", "Decisions that failed temporarily and are retried", &self.failures),
            (
                "approved_by_another",
                "Requests with a SPIFFE identity that another approver approved, which bypasses every rule",
                &self.approved_by_another,
            ),
            ("watch_failures", "Failures to list or watch requests", &self.watch_failures),
            ("watch_restarts", "Watches of the API server that broke and were established again", &self.watch_restarts),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("pending_requests", "Requests that are neither approved nor denied", self.pending.clone());
        registry.register("leader", "1 if this approver is the one that decides", self.leading.clone());
        registry.register("watch_synced", "1 if all requests have been listed", self.synced.clone());
    }

    /// Records a written decision.
    pub(super) fn decided(&self, verdict: &Verdict, after: Duration) {
        let (decision, reason) = match verdict {
            Verdict::Deny(reasons) => ("denied", reasons.iter().next().map_or("", |reason| reason.class())),
            _ => ("approved", ""),
        };
        self.decisions.get_or_create(&Decision { decision, reason }).inc();
        self.seconds.observe(after.as_secs_f64());
    }

    /// Everything in the OpenMetrics text format.
    pub(super) fn encode(&self, now: ScrapedValues) -> String {
        self.pending.set(i64::try_from(now.pending).unwrap_or(i64::MAX));
        self.leading.set(now.is_leading.into());
        self.synced.set(now.is_synced.into());
        let mut page = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }

    /// A page with every metric and every label, for the reference.
    pub(super) fn specimen() -> String {
        let metrics = Self::default();
        metrics.decided(&Verdict::Approve, Duration::ZERO);
        metrics.encode(ScrapedValues { pending: 0, is_leading: true, is_synced: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_reference() {
        let registered = format!("{:?}", Metrics::default().registry).matches("Descriptor {").count();
        assert!(registered > 5);
        assert_eq!(Metrics::specimen().matches("# TYPE ").count(), registered);
    }

    #[test]
    fn the_approver_has_the_metrics_of_its_alerts() {
        let metrics = Metrics::default();
        metrics.decided(&Verdict::Deny(Default::default()), Duration::ZERO);
        let now = ScrapedValues { pending: 0, is_leading: true, is_synced: true };
        crate::telemetry::alerts::check_against("svid-csi-approver", &metrics.encode(now));
    }
}
