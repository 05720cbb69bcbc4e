//! Warns the pod's owners, by events on the pod, that its identity is in danger.

use std::convert::Infallible;
use std::time::Duration;

use svid_csi_core::finding;
use svid_csi_core::renewal::Renewal;
use svid_csi_core::volume::VolumeSpec;
use tracing::error;

use super::Node;
use super::error::VolumeError;
use crate::telemetry::report;

/// Raised once for every identity that was not renewed until little of its lifetime is left.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    last_error: Option<String>,
}

impl Alarm {
    /// Raises the alarm after that time, if there is one. Never ends, so that the concurrent renewal continues, and keeps
    /// its turn.
    pub(super) async fn keep(
        &mut self,
        node: &Node,
        spec: &VolumeSpec,
        after: Option<Duration>,
        renewal: &mut Renewal,
    ) -> Infallible {
        if let Some(after) = after {
            tokio::time::sleep(after).await;
            renewal.alarm_raised();
            self.raise(node, spec);
        }
        std::future::pending().await
    }

    pub(super) fn remember(&mut self, error: &VolumeError) {
        self.last_error = Some(report::chain(error));
    }

    fn raise(&mut self, node: &Node, spec: &VolumeSpec) {
        // Both, because at this moment it may only be waiting for the next attempt.
        let waits_for = node.sources.waiting_of(&spec.id).map(|what| format!("it waits for {what}"));
        let reasons: Vec<_> = self.last_error.take().into_iter().chain(waits_for).collect();
        let reason = if reasons.is_empty() { "see the log".to_owned() } else { reasons.join("; ") };
        let finding = finding!("identity-overdue");
        error!(
            volume = %spec.id, pod = spec.pod.as_ref().map(ToString::to_string), reason, finding = finding.id,
            "the identity is about to expire and was not renewed"
        );
        let message = format!("the identity in volume {} is about to expire and was not renewed: {reason}", spec.id);
        node.reports.to_pod(spec, "IdentityNotRenewed", message, Some(finding));
    }
}
