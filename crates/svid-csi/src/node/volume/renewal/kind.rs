//! The kinds of work of a renewal, and how their ends are reported.

use svid_csi_core::renewal::Work;
use svid_csi_core::state::Issued;
use svid_csi_core::volume::VolumeSpec;
use tracing::error;

use crate::node::volume::Node;
use crate::node::volume::error::VolumeError;
use crate::telemetry::metrics::RenewalResult;
use crate::telemetry::report;

/// The failure in a row that the owner of the pod is notified of.
const FAILURES_OF_EVENT: u32 = 2;

/// The kind of work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Identity,
    Withdrawal,
    Tokens,
}

impl Kind {
    /// The work with which it is retried.
    pub(super) fn work(self) -> Work {
        match self {
            Kind::Identity | Kind::Withdrawal => Work::Identity,
            Kind::Tokens => Work::Tokens,
        }
    }

    /// What failed.
    pub(super) fn failure(self) -> &'static str {
        match self {
            Kind::Identity => "renewal failed",
            Kind::Withdrawal => "withdrawal failed",
            Kind::Tokens => "renewal of the tokens failed",
        }
    }

    /// Its name in metrics.
    pub(super) fn renewed(self) -> &'static str {
        match self {
            Kind::Identity | Kind::Withdrawal => "identity",
            Kind::Tokens => "tokens",
        }
    }

    /// The state of the volume after a failure.
    pub(super) fn consequence_of_failure(self) -> &'static str {
        match self {
            Kind::Identity => "renewal failed; the volume keeps its last identity",
            Kind::Withdrawal => "withdrawal failed; the volume may still hold the withdrawn identity",
            Kind::Tokens => "renewal of the tokens failed; the volume keeps its last tokens",
        }
    }
}

/// The result of a renewal that has not failed.
pub(super) fn result(kind: Kind, before: Option<&Issued>, now: Option<&Issued>) -> RenewalResult {
    let digest = |issued: &Issued| issued.digest.clone();
    match kind {
        Kind::Withdrawal => RenewalResult::Withdrawn,
        Kind::Identity if before.and_then(digest) == now.and_then(digest) => RenewalResult::Unchanged,
        Kind::Identity | Kind::Tokens => RenewalResult::Renewed,
    }
}

/// Counts a failure. Logs the first, then the second, fourth, eighth and so on.
pub(super) fn report_failure(node: &Node, spec: &VolumeSpec, error: &VolumeError, failures: u32, kind: Kind) {
    node.reports.recent.failed(spec, kind.failure(), error);
    node.reports.metrics.renewal_ended(spec.plan().source(), kind.renewed(), RenewalResult::Failed);
    node.reports.denial(spec, error);
    // The first one may be a matter of seconds, and `Alarm` says so again before the identity expires.
    if failures == FAILURES_OF_EVENT {
        let message = format!("volume {}: {}: {}", spec.id, kind.consequence_of_failure(), report::chain(error));
        node.reports.to_pod(spec, "RenewalFailing", message, error.finding());
    }
    if failures.is_power_of_two() {
        let consequence = kind.consequence_of_failure();
        error!(
            volume = %spec.id, pod = spec.pod.as_ref().map(ToString::to_string), failures,
            error = report::chain(error), finding = error.finding().map(|check| check.id), "{consequence}"
        );
    }
}
