//! The trust bundle that the administrator configures for source `cert-manager`, because issuers do not know all of it,
//! especially while a CA is rotated.

mod cluster_trust_bundle;
mod config_map;
mod file;
mod origin;
mod updater;

use std::sync::Arc;

use kube::Client;
use svid_csi_core::identity::{BundleError, TrustBundle};
use tokio::sync::watch;

pub use self::origin::BundleSource;
use self::updater::BundleUpdater;
use crate::host::fsx::FsError;
use crate::kube::one_object::ReadError;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

/// Why there is no trust bundle, or no newer one.
#[derive(Debug, thiserror::Error)]
pub enum TrustBundleError {
    /// The driver has no access to the API server.
    #[error("{0} is on the API server, which this driver has no access to")]
    NoClient(BundleSource),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FsError),
    /// The object cannot be read.
    #[error(transparent)]
    Object(#[from] ReadError),
    /// The object does not exist.
    #[error("there is no {object}")]
    Absent {
        /// Its kind and name.
        object: String,
    },
    /// The object does not have that key.
    #[error("the {object} has no key {key}")]
    NoKey {
        /// Its kind and name.
        object: String,
        /// The key.
        key: String,
    },
    /// The API server is too old, or not configured to serve the object.
    #[error(
        "the API server does not serve ClusterTrustBundles (--trust-bundle): before Kubernetes 1.37 it needs the feature gate \
         ClusterTrustBundle and --runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true"
    )]
    NotServed,
    /// It is not a valid trust bundle.
    #[error("{origin} is not a valid trust bundle")]
    Unusable {
        /// Its origin.
        origin: BundleSource,
        /// The problem.
        #[source]
        source: Box<BundleError>,
    },
}

/// A followed trust bundle.
#[derive(Debug, Clone)]
pub struct CurrentBundle {
    /// The last good one, if there has been any. Changes with the trusted certificates, and with the text to be
    /// delivered.
    pub bundle: watch::Receiver<Option<Arc<TrustBundle>>>,
    trouble: watch::Receiver<Option<String>>,
}

impl CurrentBundle {
    /// Why the bundle may differ from its origin, if it may: that is broken, missing, or cannot be read.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }
}

/// Follows a trust bundle. A good one in a file is available at once; this call blocks for it.
///
/// # Errors
/// [`TrustBundleError::NoClient`]. Other problems are logged once, and may be fixed while the driver runs.
pub fn start(
    source: BundleSource,
    client: Option<Client>,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<CurrentBundle, TrustBundleError> {
    let updater = BundleUpdater::new(source.clone());
    let current = updater.current();
    match (source, client) {
        (BundleSource::File(path), _) => {
            let follower = file::FollowedFile::new(path, updater);
            tasks.detached(async { match follower.follow().await {} });
        }
        (BundleSource::ConfigMap { place, key }, Some(client)) => {
            let restarts = metrics.watch_restarts("ConfigMap");
            tasks.detached(async { match config_map::follow(updater, client, place, key, restarts).await {} });
        }
        (BundleSource::ClusterTrustBundle(name), Some(client)) => {
            let restarts = metrics.watch_restarts("ClusterTrustBundle");
            tasks.detached(async { match cluster_trust_bundle::follow(updater, client, name, restarts).await {} });
        }
        (source, None) => return Err(TrustBundleError::NoClient(source)),
    }
    Ok(current)
}

#[cfg(test)]
mod tests;
