//! Useless certificates in trust bundles, each reported once.

use std::sync::{Mutex, PoisonError};

use svid_csi_core::x509_context::{SkippedOf, X509Context};
use tracing::warn;

/// The reports so far.
#[derive(Debug, Default)]
pub struct SkippedNotices(Mutex<SkippedOf>);

impl SkippedNotices {
    /// Reports new ones. The bundles of a trust domain reach every pod, so each is reported only once.
    pub fn report(&self, context: &X509Context) {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (trust_domain, _) in context.bundles() {
            let Some(skipped) = context.skipped().get(trust_domain) else {
                reported.remove(trust_domain);
                continue;
            };
            let before = reported.insert(trust_domain.clone(), skipped.clone()).unwrap_or_default();
            for skipped in skipped.iter().filter(|skipped| !before.contains(skipped)) {
                warn!("bundle of {trust_domain}: {skipped}; it is skipped");
            }
        }
    }
}
