//! The reports about volumes: audit lines, metrics, and events on their pods.

use std::sync::Arc;

use svid_csi_core::error::Class;
use svid_csi_core::finding;
use svid_csi_core::findings::Check;
use svid_csi_core::identity::Identity;
use svid_csi_core::state::{Issued, Record};
use svid_csi_core::volume::VolumeSpec;
use svid_csi_core::x509_context::X509Context;
use tracing::{info, warn};

use super::error::VolumeError;
use super::jwt::{Jwt, audit_jwt};
use super::recent::RecentEvents;
use super::registry::Volume;
use crate::kube::events::{Events, pod_reference};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;

/// Where volumes are reported.
#[derive(Debug)]
pub(crate) struct Reports {
    pub(crate) metrics: Arc<Metrics>,
    pub(in crate::node) events: Option<Events>,
    pub(in crate::node) recent: RecentEvents,
}

impl Reports {
    /// Writes one line for every identity of a pod, before the pod can read it, so that no identity is missing in the
    /// log after any failure or kill.
    pub(super) fn audit(&self, volume: &mut Volume, spec: &VolumeSpec, context: &X509Context, jwt: Option<&Jwt>) {
        if !volume.is_audited(context) {
            for svid in context.svids() {
                self.audit_one(spec, &svid.identity);
            }
            self.recent.issued(spec);
        }
        if let Some(jwt) = jwt {
            audit_jwt(spec, jwt);
        }
    }

    fn audit_one(&self, spec: &VolumeSpec, identity: &Identity) {
        let pod = spec.pod.as_ref();
        self.metrics.issued();
        info!(
            target: "svid_csi::audit",
            pod_uid = pod.map(|pod| pod.uid.as_str()),
            pod = pod.map(ToString::to_string),
            spiffe_id = %identity.id(),
            serial = identity.serial(),
            not_after = report::rfc3339(identity.validity().not_after),
            source = %spec.plan().source(),
            "identity issued"
        );
    }

    /// A volume is not as it was delivered.
    pub(super) fn changed(&self, spec: &VolumeSpec, how: &str) {
        self.metrics.change_seen();
        let pod = spec.pod.as_ref().map(ToString::to_string);
        warn!(volume = %spec.id, pod, how, "the volume was changed by its pod or by another process on the node; restoring it");
    }

    /// A pod cannot start yet.
    pub(super) fn not_issued(&self, spec: &VolumeSpec, error: &VolumeError) {
        self.recent.failed(spec, "not issued", error);
        self.denial(spec, error);
    }

    /// A publish has failed. What its source did is reported where the source is asked.
    pub(super) fn not_published(&self, spec: &VolumeSpec, error: &VolumeError) {
        if !matches!(error, VolumeError::Source(_) | VolumeError::Slow { .. }) {
            self.recent.failed(spec, "not published", error);
        }
    }

    /// Sends an event that the pod's identity was denied. Everything else is retried, and the kubelet reports it.
    pub(super) fn denial(&self, spec: &VolumeSpec, error: &VolumeError) {
        if error.class() == Class::Denied && !error.is_repeated() {
            self.to_pod(spec, "IdentityDenied", report::chain(error), error.finding());
        }
    }

    /// Warns if the chain in a volume does not lead to its trust bundle, unless it has already warned for the same
    /// reason.
    pub(super) fn untrusted(&self, record: &Record, before: Option<&Issued>) {
        let untrusted = |issued: &Issued| issued.untrusted.clone();
        let Some(reason) = record.issued.as_ref().and_then(untrusted) else { return };
        if before.and_then(untrusted).as_ref() == Some(&reason) {
            return;
        }
        let spec = &record.spec;
        let pod = spec.pod.as_ref().map(ToString::to_string);
        let finding = finding!("identity-untrusted");
        warn!(volume = %spec.id, pod, finding = finding.id, "{reason}; peers that use this trust bundle do not trust the pod");
        self.to_pod(spec, "ChainNotTrusted", format!("volume {}: {reason}", spec.id), Some(finding));
    }

    /// Sends an event that a pod has its first identity in this volume. Renewals are only in the log.
    pub(super) fn first_issued(&self, spec: &VolumeSpec, identity: &Identity) {
        if let (Some(events), Some(pod)) = (&self.events, &spec.pod) {
            let message = format!(
                "{} in volume {}, serial number {}, until {}",
                identity.id(),
                spec.id,
                identity.serial(),
                report::rfc3339(identity.validity().not_after)
            );
            events.inform(pod_reference(pod), "IdentityIssued", message);
        }
    }

    pub(super) fn to_pod(
        &self,
        spec: &VolumeSpec,
        reason: &'static str,
        message: String,
        finding: Option<&'static Check>,
    ) {
        if let (Some(events), Some(pod)) = (&self.events, &spec.pod) {
            events.warn(pod_reference(pod), reason, message, finding);
        }
    }
}
