//! How long volumes wait for an identity, over all attempts: a call that is cancelled or fails is followed by another one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use svid_csi_core::plan::Source;
use svid_csi_core::volume_id::VolumeId;
use tokio::time::Instant;

use crate::telemetry::metrics::Metrics;

/// The volumes that wait, each since when.
#[derive(Debug, Default)]
pub struct IssueWaits {
    metrics: Arc<Metrics>,
    since: Mutex<HashMap<VolumeId, Instant>>,
}

impl IssueWaits {
    /// None waits yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, since: Mutex::default() }
    }

    /// A volume waits, unless it has been waiting already.
    pub(super) fn begin(&self, id: &VolumeId) {
        self.lock().entry(id.clone()).or_insert_with(Instant::now);
    }

    /// A volume has an identity. Pushed ones were not waited for.
    pub(super) fn end(&self, id: &VolumeId, source: Source) {
        let since = self.lock().remove(id);
        if let Some(since) = since {
            self.metrics.issued_after(source, since.elapsed());
        }
    }

    /// A volume no longer waits.
    pub(super) fn forget(&self, id: &VolumeId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<VolumeId, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::metrics::Snapshot;

    #[tokio::test(start_paused = true)]
    async fn a_wait_lasts_from_the_first_attempt_to_the_identity() {
        let waits = IssueWaits::default();
        let [slow, gone] = ["slow", "gone"].map(|id| VolumeId::parse(id).unwrap());
        waits.end(&slow, Source::Broker);
        for id in [&slow, &gone, &slow] {
            waits.begin(id);
            tokio::time::advance(Duration::from_secs(4)).await;
        }
        waits.forget(&gone);
        for id in [&slow, &slow, &gone] {
            waits.end(id, Source::Broker);
        }
        let page = waits.metrics.encode(&Snapshot::default());
        let sums: Vec<_> =
            page.lines().filter(|line| line.starts_with("svid_csi_issue_duration_seconds_sum")).collect();
        assert_eq!(sums, ["svid_csi_issue_duration_seconds_sum{source=\"broker\"} 12.0"]);
        assert!(page.contains("svid_csi_issue_duration_seconds_count{source=\"broker\"} 1\n"), "{page}");
    }
}
