//! The identity of one volume's pod, as served on its socket.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use svid_csi_core::files::FileName;
use svid_csi_core::identity::{TrustBundle, bundle_digest};
use svid_csi_core::volume::{Content, SecretNames, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::X509Context;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::share::PodShares;
use super::socket;
use crate::delivery::volume_folder::VolumeFolder;
use crate::host::fsx::FsError;

/// The state of the pod's identity.
#[derive(Debug, Clone, Default)]
pub(super) enum PodIdentity {
    /// Nothing yet.
    #[default]
    NotYet,
    /// This.
    Given(Arc<X509Context>),
    /// It was withdrawn.
    Withdrawn,
}

/// The socket of one volume.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) volume: VolumeId,
    pub(super) identity: watch::Sender<PodIdentity>,
    /// The number of updates. Changes with `identity`, under its lock.
    turn: AtomicU64,
    /// The share of its pod, over all its volumes.
    pub(super) shares: Arc<PodShares>,
    /// The number of open connections.
    pub(super) connections: AtomicUsize,
    /// The number of open streams.
    pub(super) streams: AtomicUsize,
    /// The signal for its connections to end.
    pub(super) closing: CancellationToken,
    spec: Mutex<Arc<VolumeSpec>>,
    listening: Mutex<Option<Listening>>,
}

/// A listening socket, which is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    /// The inode of the socket.
    pub(super) inode: u64,
    pub(super) _until: DropGuard,
}

/// The current use of a pod's socket.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Usage {
    /// Open connections.
    pub connections: usize,
    /// Open streams on the connections.
    pub streams: usize,
}

impl Endpoint {
    pub(super) fn new(spec: &Arc<VolumeSpec>, shares: Arc<PodShares>) -> Self {
        Self {
            volume: spec.id.clone(),
            identity: watch::Sender::default(),
            turn: AtomicU64::default(),
            shares,
            connections: AtomicUsize::default(),
            streams: AtomicUsize::default(),
            closing: CancellationToken::new(),
            spec: Mutex::new(spec.clone()),
            listening: Mutex::default(),
        }
    }

    /// The published volume.
    pub(super) fn spec(&self) -> Arc<VolumeSpec> {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of the volume's special secrets.
    pub(super) fn secret_names(&self) -> SecretNames {
        match &self.spec().content {
            Content::WorkloadApi(socket) => (*socket.secrets).clone(),
            _ => SecretNames::default(),
        }
    }

    /// Replaces the published volume.
    pub(super) fn published_as(&self, spec: &Arc<VolumeSpec>) {
        let mut known = self.spec.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != *spec {
            *known = spec.clone();
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let now = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Usage { connections: now(&self.connections), streams: now(&self.streams) }
    }

    /// Whether the names in the folder lead to this socket, and nothing else is in the folder.
    pub(super) fn listens(&self, folder: &VolumeFolder, names: &[FileName]) -> Result<bool, FsError> {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.as_ref().map_or(Ok(false), |listening| socket::is_alone(folder, names, listening.inode))
    }

    /// Whether it listens in a folder.
    pub(super) fn has_listened(&self) -> bool {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn listening(&self, listening: Listening) {
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(listening);
    }

    pub(super) fn given(&self) -> Option<Arc<X509Context>> {
        match &*self.identity.borrow() {
            PodIdentity::Given(context) => Some(context.clone()),
            PodIdentity::NotYet | PodIdentity::Withdrawn => None,
        }
    }

    /// Does nothing if these identities were already sent.
    pub(super) fn send(&self, context: Arc<X509Context>) {
        if !self.given().is_some_and(|given| Arc::ptr_eq(&given, &context)) {
            self.update(PodIdentity::Given(context));
        }
    }

    /// Sends the same identities with another bundle of their trust domain, if there are any.
    pub(super) fn send_bundle(&self, bundle: &TrustBundle) {
        self.identity.send_if_modified(|identity| match identity {
            PodIdentity::Given(given) if bundle_digest(given.bundle()) != bundle.digest() => {
                *given = Arc::new(given.with_bundle(bundle.certificates()));
                self.turn.fetch_add(1, Ordering::Relaxed);
                true
            }
            _ => false,
        });
    }

    /// Ends every stream with the error that the identity was withdrawn, and refuses new connections.
    pub(super) fn withdraw(&self) {
        self.update(PodIdentity::Withdrawn);
        self.close();
    }

    fn update(&self, what: PodIdentity) {
        self.identity.send_modify(|identity| {
            *identity = what;
            self.turn.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// The number of updates so far.
    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// Ends all connections.
    pub(super) fn close(&self) {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.closing.cancel();
    }
}
