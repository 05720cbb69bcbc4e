//! The volumes of this node. Each verb of a volume's life is a file with methods of [`Node`].

mod adopt;
mod alarm;
mod bundle;
mod changed;
mod condition;
mod deliver;
pub(super) mod error;
mod intent;
mod jwt;
pub(super) mod later;
mod mount;
pub(super) mod publish;
mod recover;
pub(super) mod registry;
mod renewal;
pub(super) mod room;
pub(super) mod store;
mod unpublish;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use svid_csi_core::plan::{Source, one_of};
use tokio::sync::watch;

use self::room::Room;
use self::store::Store;
use crate::delivery::folders::Folders;
use crate::delivery::passwords::Passwords;
use crate::delivery::socket_dir::SocketDir;
use crate::delivery::workload_api::WorkloadApi;
use crate::host::clock::Jumps;
use crate::host::data_root::DataRoot;
use crate::kube::events::Events;
use crate::source::Sources;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

pub use self::error::VolumeError;
pub(crate) use self::registry::{Volume, Volumes};

/// The state for the calls of the kubelet.
#[derive(Debug)]
pub struct Node {
    pub(crate) volumes: Volumes,
    pub(crate) store: Store,
    pub(crate) sources: Arc<Sources>,
    pub(crate) folders: Option<Folders>,
    pub(crate) workload_api: Option<WorkloadApi>,
    pub(crate) passwords: Option<Passwords>,
    pub(crate) socket_dir: Option<Arc<SocketDir>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    pub(super) events: Option<Events>,
    /// The driver names that the kubelet has accepted.
    pub(super) registered: watch::Sender<BTreeSet<String>>,
    pub(crate) jumps: Arc<Jumps>,
    pub(super) later: later::Later,
    pub(super) _lock: Option<std::fs::File>,
    pub(crate) data: Option<DataRoot>,
    pub(crate) room: Option<Room>,
}

impl Node {
    pub(crate) fn folders(&self) -> Result<&Folders, VolumeError> {
        static MISSING: LazyLock<String> = LazyLock::new(|| {
            let sources = Source::ALL.into_iter().filter(|source| source.issuer().is_some());
            format!("identities (--source {}, --data-root)", one_of(sources))
        });
        self.folders.as_ref().ok_or(VolumeError::NotConfigured(&MISSING))
    }

    /// Whether volumes whose files this driver writes are protected from their pods, even if their mounts are writable.
    pub(crate) fn seals(&self) -> bool {
        self.folders.as_ref().is_some_and(Folders::seals)
    }

    pub(crate) fn workload_api(&self) -> Result<&WorkloadApi, VolumeError> {
        let missing = "Workload API sockets (--delivery workload-api, or --allow-plan)";
        self.workload_api.as_ref().ok_or(VolumeError::NotConfigured(missing))
    }

    pub(crate) fn socket_dir(&self) -> Result<&Arc<SocketDir>, VolumeError> {
        self.socket_dir.as_ref().ok_or(VolumeError::NotConfigured("--workload-api-socket-dir"))
    }
}
