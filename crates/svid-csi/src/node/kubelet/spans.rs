//! The spans of CSI calls, each the root of a trace. Their fields hold names, and never what was requested or issued.

use svid_csi_core::plan::Plan;
use svid_csi_core::pod::PodRef;
use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use super::csi_messages::code;
use crate::node::volume::error::VolumeError;
use crate::telemetry::log::SPANS;
use crate::telemetry::report;

pub(super) fn publish(driver: &str, volume: &str) -> Span {
    info_span!(
        target: SPANS, parent: None, "NodePublishVolume",
        driver, volume, plan = Empty, pod = Empty, unchanged = Empty, code = Empty, error = Empty
    )
}

pub(super) fn unpublish(driver: &str, volume: &str) -> Span {
    info_span!(
        target: SPANS, parent: None, "NodeUnpublishVolume",
        driver, volume, plan = Empty, code = Empty, error = Empty
    )
}

/// The current call is about that volume.
pub(super) fn concerns(plan: Option<Plan>, pod: Option<&PodRef>) {
    let span = Span::current();
    if let Some(plan) = plan {
        span.record("plan", display(plan));
    }
    if let Some(pod) = pod {
        span.record("pod", display(pod));
    }
}

/// The current call is a republish, of which there are too many to keep.
pub(super) fn changes_nothing() {
    Span::current().record("unchanged", true);
}

/// The call has ended.
pub(super) fn ended(span: &Span, error: Option<&VolumeError>) {
    if let Some(error) = error.filter(|_| !span.is_disabled()) {
        span.record("code", display(format_args!("{:?}", code(error.class()))));
        span.record("error", reason(error));
    }
}

/// Why a call failed, without what it requested: the error quotes that, for the pod's events and the log.
fn reason(error: &VolumeError) -> String {
    match error {
        VolumeError::Begun(error) => reason(error),
        VolumeError::Invalid(_) => {
            "the request is invalid; the log of the driver and the events of the pod say why".to_owned()
        }
        error => report::chain(error),
    }
}
