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

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use svid_csi_core::state::FileId;
use svid_csi_core::volume_id::VolumeId;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use self::dir_choice::DirChoice;
pub use self::error::SocketDirError;
use self::granted::{Granted, SETTLES_IN};
use self::hard_links::{Changes, Linked, Touched};
use self::health::PATIENCE;
pub use self::health::seen;
use self::of_pods::OfPods;
use super::private_bind::View;
use crate::host::data_root::DataRoot;
use crate::host::fsx::{self, FsError};
use crate::host::mount::{self, MountError, MountSource};
use crate::host::seal::Sealing;
use crate::tasks::{Looks, NoAnswer};
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
///
/// The agent's file system may be in the hands of another program, or of another machine, and never answer. So it is looked at
/// only by [`Looks`], one at a time: by [`SocketDir::look_within`], or by a method that says that it blocks, which fails then.
#[derive(Debug)]
pub struct SocketDir {
    /// As configured; it may be a link.
    agent: PathBuf,
    /// The directory for pods, if it is configured.
    configured: Option<PathBuf>,
    /// The driver's own directories, if there can be any; unknown before the first look.
    own: OnceLock<Option<OwnDirectories>>,
    views: Option<Views>,
    linked: Mutex<Linked>,
    /// Notified of a new directory of a pod.
    has_new: Notify,
    choice: Mutex<DirChoice>,
    trouble: Mutex<Reported>,
    left_out: Mutex<Reported<Vec<PathBuf>>>,
    undone: Mutex<Sparingly>,
    /// Whether changes are being watched.
    followed: AtomicBool,
    looks: Looks,
    /// What [`SocketDir::is_up`] last returned.
    was_up: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The driver's own directories in place of the agent's.
#[derive(Debug)]
struct OwnDirectories {
    stable: PathBuf,
    of_pods: OfPods,
}

impl SocketDir {
    /// Decides between the stable directory and the plain bind, and links the existing sockets. Their access rights are
    /// remembered in the file `granted`. If the agent's file system does not answer, that is done by the first look that it
    /// answers. Blocks.
    ///
    /// # Errors
    /// [`SocketDirError::OtherMount`] if a stable directory was configured and cannot work.
    pub fn open(
        config: &AgentDir,
        data: Option<&DataRoot>,
        granted: Option<PathBuf>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, SocketDirError> {
        let socket_dir = Arc::new(SocketDir {
            agent: config.path.clone(),
            configured: config.stable.clone(),
            own: OnceLock::new(),
            has_new: Notify::new(),
            views: data.map(|data| Views {
                shared: View::at(data.tmpfs().join("agent")),
                of_pods: View::at(data.tmpfs().join("agent-of-pods")),
            }),
            linked: Mutex::new(Linked::with(Granted::load(granted))),
            choice: Mutex::new(DirChoice::Plain),
            trouble: Mutex::default(),
            left_out: Mutex::default(),
            undone: Mutex::default(),
            followed: AtomicBool::default(),
            looks: Looks::default(),
            was_up: AtomicBool::default(),
            metrics,
        });
        match socket_dir.looked(|_| Ok::<_, SocketDirError>(())) {
            Err(error @ (SocketDirError::Silent(_) | SocketDirError::Busy(_))) => {
                warn!(
                    error = report::chain(&error),
                    "the agent's directory is not known yet: its volumes wait, others are served"
                );
            }
            known => known?,
        }
        Ok(socket_dir)
    }

    /// Finds the driver's own directories, unless they are known, and links the existing sockets.
    fn prepare(&self) -> Result<(), SocketDirError> {
        if self.own.get().is_some() {
            return Ok(());
        }
        let stable = match &self.configured {
            Some(stable) => Some(stable::explicit(&self.agent, stable)?),
            None => stable::beside(&self.agent)?,
        };
        let choice = if stable.is_some() { DirChoice::Sealed } else { DirChoice::Plain };
        *self.choice.lock().unwrap_or_else(PoisonError::into_inner) = choice;
        let own = |stable: PathBuf| OwnDirectories { of_pods: OfPods::of(&stable, self.metrics.clone()), stable };
        // Looks are one at a time, so nothing else sets it.
        let _ = self.own.set(stable.map(own));
        self.look();
        self.synchronise_pods();
        Ok(())
    }

    /// Looks for a caller that blocks.
    fn looked<T, E>(
        self: &Arc<Self>,
        look: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, SocketDirError>
    where
        T: Send + 'static,
        SocketDirError: From<E>,
    {
        let this = self.clone();
        let looked = self.looks.within_blocking(PATIENCE, move || {
            this.prepare()?;
            Ok(look(&this)?)
        });
        looked.unwrap_or_else(|why| Err(self.unanswered(why)))
    }

    /// The failure of a look that does not end.
    pub fn silent(&self) -> SocketDirError {
        SocketDirError::Silent(self.agent.clone())
    }

    fn unanswered(&self, why: NoAnswer) -> SocketDirError {
        match why {
            NoAnswer::Silent | NoAnswer::Failed => self.silent(),
            NoAnswer::Busy => SocketDirError::Busy(self.agent.clone()),
        }
    }

    /// Whether volumes follow the agent's directory when it is re-created.
    pub fn heals(&self) -> bool {
        self.choice().is_stable()
    }

    /// The driver's own directory in its place, if there can be one.
    pub fn stable(&self) -> Option<&Path> {
        self.own().map(|own| &*own.stable)
    }

    fn own(&self) -> Option<&OwnDirectories> {
        self.own.get()?.as_ref()
    }

    fn of_pods(&self) -> Option<&OfPods> {
        self.own().map(|own| &own.of_pods)
    }

    /// The directory to mount into the pod of a volume. If the mount has to be read-only although the pod did not request
    /// that, its runtime may make it writable, so it gets a directory of its own. Blocks.
    ///
    /// # Errors
    /// [`SocketDirError::NoAgent`] and [`SocketDirError::Writable`] among others.
    pub fn source(self: &Arc<Self>, id: &VolumeId, read_only: bool) -> Result<MountSource, SocketDirError> {
        let id = id.clone();
        self.looked(move |this| this.source_now(&id, read_only))
    }

    fn source_now(&self, id: &VolumeId, read_only: bool) -> Result<MountSource, SocketDirError> {
        let is_missing = self.stable().map_or(Ok(false), |stable| fsx::exists(stable).map(|there| !there))?;
        if let Some(stable) = self.stable().filter(|_| is_missing) {
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
        if let Some(of_pods) = self.of_pods().filter(|_| read_only) {
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

    /// Removes what a volume has of its own. Blocks.
    ///
    /// # Errors
    /// [`SocketDirError`].
    pub fn remove(self: &Arc<Self>, id: &VolumeId) -> Result<(), SocketDirError> {
        self.of_pod(id, OfPods::remove)
    }

    /// Removes what a volume without a record has of its own, unless it is in use. Blocks.
    ///
    /// # Errors
    /// [`SocketDirError`].
    pub fn remove_unused(self: &Arc<Self>, id: &VolumeId) -> Result<(), SocketDirError> {
        self.of_pod(id, OfPods::remove_unused)
    }

    fn of_pod(
        self: &Arc<Self>,
        id: &VolumeId,
        change: impl FnOnce(&OfPods, &VolumeId) -> Result<(), FsError> + Send + 'static,
    ) -> Result<(), SocketDirError> {
        // Volumes of other sources do not depend on the agent's file system.
        let may_have = |own: &Option<OwnDirectories>| own.as_ref().is_some_and(|own| own.of_pods.may_have(id));
        if !self.own.get().is_none_or(may_have) {
            return Ok(());
        }
        let id = id.clone();
        self.looked(move |this| this.of_pods().map_or(Ok(()), |of_pods| change(of_pods, &id)))
    }

    /// Removes what volumes have for which `is_known` returns false, unless it is in use. Returns the failures, each with the
    /// path of what is left. Blocks.
    pub fn keep_only(self: &Arc<Self>, is_known: impl Fn(&VolumeId) -> bool) -> Vec<FsError> {
        let Some(of_pods) = self.of_pods() else { return Vec::new() };
        let failed = |id: VolumeId| {
            let error = self.remove_unused(&id).err()?;
            Some(FsError { action: "remove", path: of_pods.path_of(&id), source: io::Error::other(error) })
        };
        of_pods.unknown(is_known).into_iter().filter_map(failed).collect()
    }

    /// Whether `root` is the directory that pods currently get, or one of a pod's own. Blocks.
    ///
    /// # Errors
    /// [`MountError`] if that cannot be determined.
    pub fn is_current(self: &Arc<Self>, root: FileId) -> Result<bool, MountError> {
        let looked = self.looked(move |this| {
            let is_of_a_pod = || this.of_pods().map_or(Ok(false), |of_pods| of_pods.contain(root));
            Ok::<_, MountError>(this.is_shared(root)? || is_of_a_pod()?)
        });
        looked.map_err(|error| match error {
            SocketDirError::Mount(error) => error,
            SocketDirError::File(error) => error.into(),
            error => FsError { action: "look at", path: self.agent.clone(), source: io::Error::other(error) }.into(),
        })
    }

    /// Whether `root` is the directory that follows the agent's, or the agent's own, which pods share.
    fn is_shared(&self, root: FileId) -> Result<bool, MountError> {
        let root = Some(root);
        Ok(mount::file_id_of(&self.live())? == root || mount::file_id_of(&self.located())? == root)
    }

    /// Updates the directories of pods. Returns whether one of them has failed.
    fn synchronise_pods(&self) -> bool {
        self.of_pods().filter(|_| self.heals()).is_some_and(OfPods::synchronise)
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
    fn located(&self) -> PathBuf {
        agent_folder::locate(&self.agent)
    }

    fn live(&self) -> PathBuf {
        self.stable().filter(|_| self.heals()).map_or_else(|| self.located(), Path::to_owned)
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
        let stable = self.stable()?;
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
