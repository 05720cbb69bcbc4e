//! Certificates and bundles that cannot be used, each reported once.

use std::sync::{Mutex, PoisonError};

use svid_csi_core::x509_context::{Damaged, SkippedOf, X509Context};
use tracing::warn;

/// The reports so far.
#[derive(Debug, Default)]
pub struct BundleWarnings(Mutex<ReportedProblems>);

#[derive(Debug, Default)]
struct ReportedProblems {
    skipped: SkippedOf,
    damaged: Damaged,
}

impl BundleWarnings {
    /// Reports new ones. The bundles of a trust domain reach every pod, so each is reported only once.
    pub fn report(&self, context: &X509Context) {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (trust_domain, _) in context.bundles() {
            if !context.damaged().contains_key(trust_domain.as_str()) {
                reported.damaged.remove(trust_domain.as_str());
            }
            let Some(skipped) = context.skipped().get(trust_domain) else {
                reported.skipped.remove(trust_domain);
                continue;
            };
            let before = reported.skipped.insert(trust_domain.clone(), skipped.clone()).unwrap_or_default();
            for skipped in skipped.iter().filter(|skipped| !before.contains(skipped)) {
                warn!(%trust_domain, reason = %skipped, "skipping a certificate in the bundle of a trust domain");
            }
        }
        for (name, error) in context.damaged() {
            if reported.damaged.insert(name.clone(), error.clone()).as_ref() != Some(error) {
                warn!(
                    trust_domain = name,
                    error,
                    "the bundle of a federated trust domain is damaged; using the last good one, if there was one"
                );
            }
        }
    }
}
