//! Source `cert-manager`: identities through `CertificateRequest` objects, compatible with
//! cert-manager/csi-driver-spiffe.
//!
//! A request outlives the call that created it: the kubelet's next call waits for the same one. A new one is created
//! only if the last was denied, failed, was marked invalid or was deleted, and only after a back-off.

mod ask;
mod clean;
pub mod config;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod list_watch;
mod outcome;
mod requests;
#[cfg(test)]
mod tests;
mod turns;
mod volume;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use svid_csi_core::cert_request::IssuerRef;
use svid_csi_core::identity::TrustBundle;
use svid_csi_core::pod_token;
use svid_csi_core::secret::Secret;
use svid_csi_core::volume::{Content, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use tokio::sync::watch as value;

use self::config::RequestSettings;
pub use self::error::CertManagerError;
use self::requests::{Link, Requests};
use self::turns::Turns;
use self::volume::VolumeIssuance;
use super::trust_bundle::{BundleSource, CurrentBundle};
use crate::kube::requester::Requester;
use crate::kube::runtime_issuer::RuntimeIssuer;
use crate::kube::unusable::Unusable;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

/// The audience of tokens for the API server, as the kubelet writes it.
const API_SERVER: &str = "";

/// Settings from the cluster that change at runtime.
#[derive(Debug)]
pub struct Followed {
    /// The current issuer, if there is one.
    pub issuer: value::Receiver<Option<IssuerRef>>,
    /// The follower of the issuer, if it is followed.
    pub runtime: Option<RuntimeIssuer>,
    /// The trust bundle with its name, if the administrator has configured one.
    pub bundle: Option<(BundleSource, CurrentBundle)>,
}

/// The source.
#[derive(Debug)]
pub struct CertManager {
    settings: RequestSettings,
    followed: Followed,
    requester: Requester,
    requests: Arc<Requests>,
    unusable: Unusable,
    volumes: Mutex<HashMap<VolumeId, Arc<VolumeIssuance>>>,
    renewals: Turns,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    /// Whether it was logged that the driver may not delete requests.
    reported_forbidden: Arc<AtomicBool>,
}

/// How long the caller can wait.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// A pod waits to start, so missing dependencies are reported soon.
    First,
    /// The volume has an identity with that remaining lifetime, so the driver waits for missing dependencies.
    Renewal {
        /// The remaining lifetime; `None` if it has expired.
        remaining: Duration,
    },
}

impl CertManager {
    /// Creates the source. Nothing is watched before [`start`](Self::start).
    pub fn new(
        settings: RequestSettings,
        followed: Followed,
        client: &Client,
        requester: Requester,
        metrics: Arc<Metrics>,
        tasks: Tasks,
    ) -> Self {
        let renewals = Turns::new(settings.renewals);
        let unusable = Unusable::new(client.clone());
        let (requests, volumes, reported_forbidden) = (Arc::default(), Mutex::default(), Arc::default());
        Self {
            settings,
            followed,
            requester,
            requests,
            unusable,
            volumes,
            renewals,
            metrics,
            tasks,
            reported_forbidden,
        }
    }

    /// Starts watching the requests of this node.
    pub fn start(&self, client: Client) {
        let (node, restarts) = (self.settings.node_id.clone(), self.metrics.watch_restarts("CertificateRequest"));
        let watch = list_watch::follow(self.requests.clone(), client, node, restarts, self.tasks.stopping());
        self.tasks.essential("certificate request watch", watch);
    }

    /// Keeps the token of a volume's pod until the next one arrives or the volume is removed. Not needed if the driver
    /// makes the requests.
    pub fn offer(&self, id: &VolumeId, tokens: &Secret) {
        if !self.settings.pods_ask {
            return;
        }
        // Unreadable tokens were refused before.
        let token = pod_token::parse(tokens.expose()).ok().and_then(|mut tokens| tokens.remove(API_SERVER));
        if token.is_some() {
            self.volume(id).token.send_replace(token);
        }
    }

    /// The current trust bundle, and its changes; `None` if the administrator has not configured one.
    pub fn bundle(&self) -> Option<value::Receiver<Option<Arc<TrustBundle>>>> {
        self.followed.bundle.as_ref().map(|(_, current)| current.bundle.clone())
    }

    /// Whether the volume requires a certificate whose chain leads to the trust bundle; clients of the Workload API
    /// refuse all others.
    pub fn requires_chain(&self, spec: &VolumeSpec) -> bool {
        self.settings.requires_chain || !matches!(spec.content, Content::Files(_))
    }

    /// Whether the requests of this node are being watched.
    pub fn is_up(&self) -> bool {
        *self.requests.link().borrow() == Link::Up
    }

    /// What each volume waits for, if it waits.
    pub fn waiting(&self) -> BTreeMap<VolumeId, String> {
        let volumes = self.lock();
        volumes.iter().filter_map(|(id, volume)| Some((id.clone(), volume.waiting()?))).collect()
    }

    /// What a volume waits for, if it waits.
    pub fn waiting_of(&self, id: &VolumeId) -> Option<String> {
        self.lock().get(id)?.waiting()
    }

    /// The number of volumes that wait for a token from the kubelet, and of those that wait for their request.
    pub fn waiting_counts(&self) -> (usize, usize) {
        let waits: Vec<_> = self.lock().values().map(|volume| volume.waits_for()).collect();
        let count = |of: fn(&(bool, bool)) -> bool| waits.iter().filter(|waits| of(waits)).count();
        (count(|waits| waits.0), count(|waits| waits.1))
    }

    fn volume(&self, id: &VolumeId) -> Arc<VolumeIssuance> {
        self.lock().entry(id.clone()).or_default().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<VolumeId, Arc<VolumeIssuance>>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
