//! Keeps the last good trust bundle, and logs its changes.

use std::sync::Arc;

use svid_csi_core::identity::TrustBundle;
use tracing::{error, info, warn};

use super::{BundleSource, CurrentBundle, TrustBundleError};
use crate::followed_value::FollowedValue;
use crate::tasks::blocking;
use crate::telemetry::report;

/// The side that follows a trust bundle.
#[derive(Debug)]
pub(super) struct BundleUpdater {
    source: BundleSource,
    last: FollowedValue<Option<Arc<TrustBundle>>>,
    /// The certificates that were logged as skipped.
    skipped: Vec<String>,
}

impl BundleUpdater {
    /// Creates it without a bundle.
    pub(super) fn new(source: BundleSource) -> Self {
        Self { source, last: FollowedValue::new(None), skipped: Vec::new() }
    }

    pub(super) fn current(&self) -> CurrentBundle {
        CurrentBundle { bundle: self.last.value(), trouble: self.last.trouble() }
    }

    /// Takes the current text.
    pub(super) async fn offer(&mut self, pem: Vec<u8>) {
        let source = self.source.clone();
        // Off the async threads, because a bundle may have a thousand certificates, and its digest is computed.
        match blocking(move || read(&source, &pem)).await {
            Ok(bundle) => self.take(bundle),
            Err(failed) => error!(error = report::chain(&failed), "the trust bundle cannot be read"),
        }
    }

    /// Takes the current bundle, if it is good.
    pub(super) fn take(&mut self, bundle: Result<TrustBundle, TrustBundleError>) {
        let source = &self.source;
        match bundle {
            Ok(bundle) => {
                let skipped: Vec<_> = bundle.skipped().iter().map(ToString::to_string).collect();
                let (certificates, digest) = (bundle.certificates().len(), bundle.digest().to_owned());
                if self.last.good(Some(Arc::new(bundle))) {
                    info!(certificates, digest, "trust bundle updated from {source}");
                }
                for skipped in skipped.iter().filter(|skipped| !self.skipped.contains(skipped)) {
                    warn!(%source, reason = %skipped, "skipping a certificate in the trust bundle");
                }
                self.skipped = skipped;
            }
            Err(error) => {
                let error = report::chain(&error);
                if self.last.broken(error.clone()) {
                    let none = self.last.value().borrow().is_none();
                    let meanwhile = if none {
                        "the trust bundle is invalid and no earlier one exists"
                    } else {
                        "the trust bundle is invalid; using the last good one"
                    };
                    error!(error, "{meanwhile}");
                }
            }
        }
    }

    /// Records that it cannot be read for now, which has been logged.
    pub(super) fn out_of_sight(&mut self, error: &TrustBundleError) {
        self.last.out_of_sight(report::chain(error));
    }
}

/// Reads a trust bundle from `source`.
pub(super) fn read(source: &BundleSource, pem: &[u8]) -> Result<TrustBundle, TrustBundleError> {
    let unusable = |error| TrustBundleError::Unusable { origin: source.clone(), source: Box::new(error) };
    TrustBundle::read(pem).map_err(unusable)
}
