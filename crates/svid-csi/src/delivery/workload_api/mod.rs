//! Delivery `workload-api`: a separate SPIFFE Workload API in every volume.
//!
//! The caller is identified by the volume's socket it has connected to, which is in a folder that only that pod mounts.

mod call;
mod caller;
mod claims;
mod connection;
mod endpoint;
mod following;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
mod jwt;
mod saved_answers;
mod sds;
mod service;
mod share;
mod socket;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use svid_csi_core::files::FileName;
use svid_csi_core::findings::facts::PodDescriptors;
use svid_csi_core::identity::TrustBundle;
use svid_csi_core::plan::Issuer;
use svid_csi_core::volume::{SocketSpec, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::X509Context;

use self::connection::Server;
use self::endpoint::Endpoint;
use self::share::Shares;
use super::volume_folder::VolumeFolder;
use crate::host::data_root::DataRoot;
use crate::host::fsx::{self, FsError};
use crate::source::Sources;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

pub use self::endpoint::Usage;
pub use self::saved_answers::size_of;
pub use self::socket::ListenError;

/// The mode of a volume's folder: everyone in the pod may look up the socket.
pub const FOLDER_MODE: u32 = 0o755;

/// The sockets of all volumes.
#[derive(Debug)]
pub struct WorkloadApi {
    endpoints: Mutex<HashMap<VolumeId, Arc<Endpoint>>>,
    kept: PathBuf,
    server: Server,
    shares: Shares,
}

impl WorkloadApi {
    /// Prepares the folder that stores identities of pods for the next startup of the driver.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn open(data: &DataRoot, sources: Arc<Sources>, metrics: Arc<Metrics>, tasks: Tasks) -> Result<Self, FsError> {
        let kept = data.tmpfs().join("kept");
        fsx::ensure_dir(&kept, 0o700)?;
        let shares = Shares::default();
        let server = Server::new(service::api(sources, metrics.clone(), &tasks), metrics, tasks, &shares);
        Ok(Self { endpoints: Mutex::default(), kept, server, shares })
    }

    /// Listens in the volume's folder under those names, unless it does so already, however many sockets there are: the volume
    /// was published. Callers get the identity stored by an earlier run, or the error that there is none yet. Blocks; needs a
    /// tokio runtime around it.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn serve(&self, spec: &Arc<VolumeSpec>, names: &[FileName], folder: &VolumeFolder) -> Result<(), ListenError> {
        self.listen(spec, names, folder, false)
    }

    /// The same for a volume that may be new, and is refused if pods have too many sockets.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn serve_if_room(
        &self,
        spec: &Arc<VolumeSpec>,
        names: &[FileName],
        folder: &VolumeFolder,
    ) -> Result<(), ListenError> {
        self.listen(spec, names, folder, true)
    }

    fn listen(
        &self,
        spec: &Arc<VolumeSpec>,
        names: &[FileName],
        folder: &VolumeFolder,
        may_be_new: bool,
    ) -> Result<(), ListenError> {
        let known = self.endpoint(&spec.id);
        if let Some(endpoint) = &known {
            endpoint.published_as(spec);
            if endpoint.listens(folder, names)? {
                return Ok(());
            }
        }
        let place = self.shares.place_of_socket();
        let place = if may_be_new && known.is_none() { Some(place?) } else { place.ok() };
        let (listener, inode) = folder.change(|folder| socket::listen(folder, names))?;
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint =
            endpoints.entry(spec.id.clone()).or_insert_with(|| Arc::new(Endpoint::new(spec, self.shares.of(spec))));
        endpoint.listening(self.server.accept(endpoint.clone(), listener, inode, place));
        Ok(())
    }

    /// Restores the volume with those names, after changing it has failed. Blocks.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn go_back(&self, spec: &Arc<VolumeSpec>, names: &[FileName], folder: &VolumeFolder) -> Result<(), FsError> {
        if let Some(endpoint) = self.endpoint(&spec.id) {
            endpoint.published_as(spec);
        }
        folder.keep_only(names)
    }

    /// Whether the names in the volume's folder lead to its socket, and nothing else is in the folder.
    ///
    /// # Errors
    /// [`FsError`] if that cannot be determined.
    pub fn serves(&self, id: &VolumeId, socket: &SocketSpec, folder: &VolumeFolder) -> Result<bool, FsError> {
        self.endpoint(id).map_or(Ok(false), |endpoint| endpoint.listens(folder, &socket.sockets))
    }

    /// Whether something other than this driver has changed the folder since the driver listens in it.
    ///
    /// # Errors
    /// [`FsError`] if that cannot be determined.
    pub fn was_changed(&self, spec: &VolumeSpec, socket: &SocketSpec, folder: &VolumeFolder) -> Result<bool, FsError> {
        match self.endpoint(&spec.id).filter(|endpoint| *endpoint.spec() == *spec && endpoint.has_listened()) {
            Some(endpoint) => Ok(!endpoint.listens(folder, &socket.sockets)?),
            None => Ok(false),
        }
    }

    /// The descriptors that pods may take up, and have taken up.
    pub fn descriptors(&self) -> PodDescriptors {
        self.shares.descriptors()
    }

    /// The use of the volume's socket; `None` if it has none.
    pub fn usage(&self, id: &VolumeId) -> Option<Usage> {
        self.endpoint(id).map(|endpoint| endpoint.usage())
    }

    /// Sends the volume's pod its current identity, and stores it for the next startup. Blocks.
    ///
    /// # Errors
    /// [`FsError`]; the pod then has its previous identity.
    pub fn give(&self, id: &VolumeId, context: Arc<X509Context>) -> Result<(), FsError> {
        saved_answers::put(&self.kept_of(id), &context)?;
        self.send(id, context);
        Ok(())
    }

    /// Sends every pod with an identity of that issuer the new bundle of its trust domain, before anything is stored,
    /// because bundles are urgent, and a restarted driver sends them again.
    pub fn send_bundle(&self, issuer: Issuer, bundle: &TrustBundle) {
        let endpoints: Vec<_> =
            self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for endpoint in endpoints {
            if endpoint.spec().subject().is_some_and(|subject| subject.issuer == issuer) {
                endpoint.send_bundle(bundle);
            }
        }
    }

    /// Sends the volume's pod its stored identity, unless it was updated since. Returns whether the pod has an identity
    /// now: none may be stored, or one that can no longer be used. Blocks.
    ///
    /// # Errors
    /// [`FsError`] if that cannot be determined.
    pub fn give_kept(&self, id: &VolumeId) -> Result<bool, FsError> {
        if self.given(id).is_some() {
            return Ok(true);
        }
        let kept = saved_answers::get(&self.kept_of(id))?.map(Arc::new);
        Ok(kept.map(|context| self.send(id, context)).is_some())
    }

    /// The last identity of the volume's pod.
    pub fn given(&self, id: &VolumeId) -> Option<Arc<X509Context>> {
        self.endpoint(id)?.given()
    }

    /// Notifies the volume's pod that its identity was withdrawn, and closes its socket. Blocks.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn withdraw(&self, id: &VolumeId, folder: &VolumeFolder) -> Result<(), FsError> {
        if let Some(endpoint) = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            endpoint.withdraw();
        }
        fsx::remove_file(&self.kept_of(id))?;
        folder.keep_only(&[])
    }

    /// Ends the volume's socket and all connections, and removes its stored identity. Blocks.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn remove(&self, id: &VolumeId) -> Result<(), FsError> {
        if let Some(endpoint) = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            endpoint.close();
        }
        fsx::remove_file(&self.kept_of(id))
    }

    /// Removes the stored identities of volumes for which `is_known` returns false, and incomplete files that a crash
    /// left.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn keep_only(&self, is_known: impl Fn(&VolumeId) -> bool) -> Result<Vec<FsError>, FsError> {
        fsx::sweep(&self.kept, |name| VolumeId::parse(name).is_ok_and(|id| is_known(&id)))
    }

    fn send(&self, id: &VolumeId, context: Arc<X509Context>) {
        if let Some(endpoint) = self.endpoint(id) {
            endpoint.send(context);
        }
    }

    fn endpoint(&self, id: &VolumeId) -> Option<Arc<Endpoint>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn kept_of(&self, id: &VolumeId) -> PathBuf {
        self.kept.join(id.as_str())
    }
}

#[cfg(test)]
mod tests;
