//! The volumes of this node. Each verb of a volume's life is a file with methods of [`Node`].

mod adopt;
mod alarm;
mod bundle;
mod changed;
mod condition;
pub(super) mod deliver;
pub(super) mod error;
pub(super) mod facts;
mod intent;
mod jwt;
pub(super) mod later;
mod mount;
pub(super) mod publish;
pub(super) mod recent;
mod recover;
pub(super) mod registry;
mod renewal;
pub(super) mod reports;
mod restore;
pub(super) mod room;
pub(super) mod store;
mod unpublish;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use self::deliver::Deliveries;
use self::reports::Reports;
use self::store::Store;
use crate::host::clock::Jumps;
use crate::host::data_root::DataRoot;
use crate::source::Sources;
use crate::tasks::Tasks;

#[cfg(feature = "fuzzing")]
pub use self::mount::names_volume;
pub(crate) use self::registry::Volumes;

/// The state for the calls of the kubelet.
#[derive(Debug)]
pub struct Node {
    pub(crate) volumes: Volumes,
    pub(crate) store: Store,
    pub(crate) sources: Arc<Sources>,
    pub(crate) deliveries: Deliveries,
    pub(crate) reports: Arc<Reports>,
    pub(crate) tasks: Tasks,
    /// The driver names that the kubelet has accepted.
    pub(super) registered: watch::Sender<BTreeSet<String>>,
    pub(crate) jumps: Arc<Jumps>,
    pub(super) later: Arc<later::Later>,
    pub(super) _lock: Option<std::fs::File>,
    pub(crate) data: Option<DataRoot>,
}
