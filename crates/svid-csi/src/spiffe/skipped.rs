//! Certificates in trust bundles that are of no use there, each reported once.

use std::sync::{Mutex, PoisonError};

use svid_csi_core::x509_context::{SkippedOf, X509Context};
use tracing::warn;

/// What was reported already.
#[derive(Debug, Default)]
pub struct SkippedNotices(Mutex<SkippedOf>);

impl SkippedNotices {
    /// Reports what is new: the bundles of one trust domain reach every pod.
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
