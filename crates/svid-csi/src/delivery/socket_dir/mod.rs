//! Delivery `socket-dir`: the agent's socket directory, as a mount that survives the agent.
//!
//! If the driver can hard-link the agent's sockets, pods get a *stable* directory of the driver's own, which follows
//! the agent's through deletion and re-creation. If it cannot (the two must be on one mount), pods get a *plain* bind
//! of the agent's directory, which stops working once that directory is re-created; stats then report it.

mod access;
mod agent_folder;
mod dir_choice;
mod dir_watch;
mod error;
mod follow;
mod granted;
mod hard_links;
mod health;
mod of_pods;
mod stable;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use svid_csi_core::state::FileId;
use svid_csi_core::volume_id::VolumeId;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use self::dir_choice::DirChoice;
pub use self::error::SocketDirError;
use self::granted::{Granted, SETTLES_IN};
use self::hard_links::{Changes, Linked, Touched};
pub use self::health::seen;
use self::of_pods::OfPods;
use super::private_bind::View;
use crate::host::data_root::DataRoot;
use crate::host::fsx::{self, FsError};
use crate::host::mount::{self, MountError, MountSource};
use crate::host::seal::Sealing;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;
use crate::telemetry::reported::{Reported, Sparingly};

/// The configuration of the agent's sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentDir {
    /// The directory with the agent's socket; it may not exist yet.
    pub path: PathBuf,
    /// The directory mounted into pods in its place; default: a hidden sibling.
    pub stable: Option<PathBuf>,
}

/// The binds from which volumes are mounted.
#[derive(Debug)]
struct Views {
    shared: View,
    of_pods: View,
}

/// The directory for pods.
#[derive(Debug)]
pub struct SocketDir {
    /// As configured; it may be a link.
    agent: PathBuf,
    stable: Option<PathBuf>,
    views: Option<Views>,
    linked: Mutex<Linked>,
    of_pods: Option<OfPods>,
    /// Notified of a new directory of a pod.
    has_new: Notify,
    choice: Mutex<DirChoice>,
    trouble: Mutex<Reported>,
    left_out: Mutex<Reported<Vec<PathBuf>>>,
    undone: Mutex<Sparingly>,
    /// Whether changes are being watched.
    followed: AtomicBool,
    /// Held while [`SocketDir::look_within`] looks.
    looking: Arc<tokio::sync::Mutex<()>>,
    metrics: Arc<Metrics>,
}

impl SocketDir {
    /// Decides between the stable directory and the plain bind, and links the existing sockets. Their access rights are
    /// remembered in the file `granted`.
    ///
    /// # Errors
    /// [`SocketDirError::OtherMount`] if a stable directory was configured and cannot work.
    pub fn open(
        config: &AgentDir,
        data: Option<&DataRoot>,
        granted: Option<PathBuf>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SocketDirError> {
        let agent = config.path.clone();
        let stable = match &config.stable {
            Some(stable) => Some(stable::explicit(&agent, stable)?),
            None => stable::beside(&agent)?,
        };
        let choice = if stable.is_some() { DirChoice::Sealed } else { DirChoice::Plain };
        let socket_dir = SocketDir {
            agent,
            of_pods: stable.as_deref().map(|stable| OfPods::of(stable, metrics.clone())),
            has_new: Notify::new(),
            stable,
            views: data.map(|data| Views {
                shared: View::at(data.tmpfs().join("agent"), false),
                of_pods: View::at(data.tmpfs().join("agent-of-pods"), true),
            }),
            linked: Mutex::new(Linked::with(Granted::load(granted))),
            choice: Mutex::new(choice),
            trouble: Mutex::default(),
            left_out: Mutex::default(),
            undone: Mutex::default(),
            followed: AtomicBool::default(),
            looking: Arc::default(),
            metrics,
        };
        socket_dir.look();
        socket_dir.synchronise_pods();
        Ok(socket_dir)
    }

    /// Whether volumes follow the agent's directory when it is re-created.
    pub fn heals(&self) -> bool {
        self.choice().is_stable()
    }

    /// The driver's own directory in its place, if there can be one.
    pub fn stable(&self) -> Option<&Path> {
        self.stable.as_deref()
    }

    /// The directory to mount into the pod of a volume. If the mount has to be read-only although the pod did not request
    /// that, its runtime may make it writable, so it gets a directory of its own.
    ///
    /// # Errors
    /// [`SocketDirError::NoAgent`] and [`SocketDirError::Writable`] among others.
    pub fn source(&self, id: &VolumeId, read_only: bool) -> Result<MountSource, SocketDirError> {
        let is_missing = self.stable.as_ref().map_or(Ok(false), |stable| fsx::exists(stable).map(|there| !there))?;
        if let Some(stable) = self.stable.as_ref().filter(|_| is_missing) {
            fsx::ensure_dir(stable, 0o755)?;
        }
        if is_missing || !self.followed.load(Ordering::Relaxed) || self.choice() == DirChoice::Unusable {
            let trouble = self.look();
            if let Some(error) = trouble.filter(|_| self.choice() == DirChoice::Unusable) {
                return Err(SocketDirError::Unusable(error));
            }
        }
        if let Some(why) = self.choice().lack_of_seal().filter(|_| read_only) {
            return Err(SocketDirError::Writable(why));
        }
        if let Some(of_pods) = self.of_pods.as_ref().filter(|_| read_only) {
            return self.source_of_pod(of_pods, id);
        }
        let live = self.live();
        let root = mount::file_id_of(&live)?.ok_or_else(|| SocketDirError::NoAgent(live.clone()))?;
        if mount::is_deleted(&live)? {
            return Err(SocketDirError::Deleted(live));
        }
        let Some(views) = &self.views else { return Ok(MountSource::open(&live)?) };
        Ok(MountSource::open(views.shared.show(&live, root)?)?)
    }

    fn source_of_pod(&self, of_pods: &OfPods, id: &VolumeId) -> Result<MountSource, SocketDirError> {
        let (folder, own) = of_pods.ensure(id)?;
        self.has_new.notify_one();
        let Some(views) = &self.views else { return Ok(MountSource::open(&own)?) };
        let root = mount::file_id_of(folder)?.ok_or_else(|| SocketDirError::NoAgent(folder.to_owned()))?;
        Ok(MountSource::open(&views.of_pods.show(folder, root)?.join(id.as_str()))?)
    }

    /// Removes what a volume has of its own.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn remove(&self, id: &VolumeId) -> Result<(), FsError> {
        self.of_pods.as_ref().map_or(Ok(()), |of_pods| of_pods.remove(id))
    }

    /// Removes what a volume without a record has of its own, unless it is in use.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn remove_unused(&self, id: &VolumeId) -> Result<(), FsError> {
        self.of_pods.as_ref().map_or(Ok(()), |of_pods| of_pods.remove_unused(id))
    }

    /// Removes what volumes have for which `is_known` returns false, unless it is in use. Returns the failures.
    pub fn keep_only(&self, is_known: impl Fn(&VolumeId) -> bool) -> Vec<FsError> {
        self.of_pods.as_ref().map_or(Vec::new(), |of_pods| of_pods.keep_only(is_known))
    }

    /// Whether `root` is the directory that pods currently get, or one of a pod's own.
    ///
    /// # Errors
    /// [`MountError`] if that cannot be determined.
    pub fn is_current(&self, root: FileId) -> Result<bool, MountError> {
        let is_of_a_pod = || self.of_pods.as_ref().map_or(Ok(false), |of_pods| of_pods.contain(root));
        Ok(self.is_shared(root)? || is_of_a_pod()?)
    }

    /// Whether `root` is the directory that follows the agent's, or the agent's own, which pods share.
    fn is_shared(&self, root: FileId) -> Result<bool, MountError> {
        let root = Some(root);
        Ok(mount::file_id_of(&self.live())? == root || mount::file_id_of(&self.located())? == root)
    }

    /// Updates the directories of pods. Returns whether one of them has failed.
    fn synchronise_pods(&self) -> bool {
        self.of_pods.as_ref().filter(|_| self.heals()).is_some_and(OfPods::synchronise)
    }

    /// The agent's file system hangs until this is dropped.
    #[cfg(test)]
    pub(crate) fn hangs(&self) -> impl Drop {
        self.linked()
    }

    fn linked(&self) -> MutexGuard<'_, Linked> {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choice(&self) -> DirChoice {
        *self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent's directory, after a link of root's.
    pub fn located(&self) -> PathBuf {
        agent_folder::locate(&self.agent)
    }

    fn live(&self) -> PathBuf {
        self.stable.clone().filter(|_| self.heals()).unwrap_or_else(|| self.located())
    }

    /// Compares and links without a watch; again if there are new sockets, whose access rights must be settled.
    fn look(&self) -> Option<FsError> {
        let trouble = self.synchronise(&Touched::default());
        if !self.linked().is_settling() {
            return trouble;
        }
        std::thread::sleep(SETTLES_IN);
        self.synchronise(&Touched::default())
    }

    /// Compares and links. Returns the problem, if there is one.
    fn synchronise(&self, touched: &Touched) -> Option<FsError> {
        let stable = self.stable.as_ref()?;
        let mut linked = self.linked();
        let (agent, led_out) = (self.located(), linked.leading_out.clone());
        let (changes, trouble) = linked.synchronise(&[agent.clone(), self.agent.clone()], stable, touched);
        self.report(&changes);
        if linked.leading_out != led_out && !linked.leading_out.is_empty() {
            warn!(links = ?linked.leading_out, agent = %agent.display(), "ignoring links that lead out of the agent's directory");
        }
        let kind = trouble.as_ref().map(|error| error.source.kind());
        let before = self.choice();
        let below = agent_folder::sockets_below(&agent);
        let choice = match (kind, linked.sealing) {
            (Some(ErrorKind::CrossesDevices), _) if !stable::are_together(&agent, stable) => DirChoice::Apart,
            _ if !linked.seen && below.is_err() => before,
            _ if !linked.seen && below.as_ref().is_ok_and(|below| !below.is_empty()) => DirChoice::Nested,
            _ if linked.is_wrong => DirChoice::Unusable,
            (Some(_), _) if agent_folder::unless_missing(agent_folder::open(&agent)).is_err() => DirChoice::Unusable,
            (_, Some(Sealing::Sealed)) => DirChoice::Sealed,
            _ => DirChoice::Unsealed,
        };
        if choice.is_stable() {
            self.report_left_out(&linked, below.unwrap_or_default());
        }
        drop(linked);
        *self.choice.lock().unwrap_or_else(PoisonError::into_inner) = choice;
        if choice != before {
            choice.announce(&self.agent);
        }
        let trouble = trouble.filter(|_| choice != DirChoice::Apart);
        let mut reported = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = reported.news(trouble.as_ref().map(|error| report::chain(error))) {
            error!(error, "cannot update the links to the agent's sockets; pods keep the old ones");
        }
        trouble
    }

    /// Logs the sockets below the agent's directory that pods do not get, because only those at its top level are linked.
    fn report_left_out(&self, linked: &Linked, below: Vec<PathBuf>) {
        let is_linked = |socket: &PathBuf| matches!(mount::file_id_of(socket), Ok(Some(id)) if linked.links(id));
        let left_out: Vec<_> = below.into_iter().filter(|socket| !is_linked(socket)).collect();
        let mut reported = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = reported.news((!left_out.is_empty()).then_some(left_out)) {
            warn!(sockets = ?left_out, agent = %self.agent.display(), "pods do not get sockets in subfolders of the agent's directory, only sockets at its top level or linked from there");
        }
    }

    fn report(&self, changes: &Changes) {
        if !changes.linked.is_empty() || !changes.dropped.is_empty() {
            info!(linked = ?changes.linked, dropped = ?changes.dropped, "updated the links to the agent's sockets");
        }
        let mut limit = self.undone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((names, unreported)) = changes.undone_to_report(&self.metrics, &mut limit) {
            let count = changes.undone.len();
            warn!(
                ?names,
                count,
                unreported,
                "the directory of the agent's sockets in pods was changed by something other than the agent; restoring it"
            );
        }
    }
}
