//! Whether the agent is reached through the directory of a volume.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use svid_csi_core::findings::facts::{AgentFacts, AgentSeen};
use svid_csi_core::state::FileId;
use tracing::debug;

use super::access::by_descriptor;
use super::{SocketDir, SocketDirError, agent_folder};
use crate::host::fsx::FsError;
use crate::host::mount;
use crate::net::uds;
use crate::telemetry::report;

/// How long a look may take by default.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

impl SocketDir {
    /// Why a volume whose mount has the root `root` does not work, if it does not. Inspects the agent's directory
    /// again, because a mount over it does not cause an event. Blocks.
    pub fn trouble(self: &Arc<Self>, root: FileId) -> Option<String> {
        let looked = self.looked(move |this| Ok::<_, SocketDirError>(this.trouble_now(root)));
        looked.unwrap_or_else(|error| Some(report::chain(&error)))
    }

    fn trouble_now(&self, root: FileId) -> Option<String> {
        let trouble = self.look();
        if let Some(error) = trouble.as_ref().filter(|_| self.linked().is_wrong) {
            return Some(report::chain(error));
        }
        let own = self.of_pods().and_then(|of_pods| of_pods.look(root));
        if let Some((own, why)) = own.filter(|_| self.heals()) {
            return why.or_else(|| self.lacks_agent(&own, trouble));
        }
        let live = self.live();
        match self.is_shared(root).and_then(|shared| Ok(shared && !mount::is_deleted(&live)?)) {
            Ok(true) => {}
            Ok(false) => {
                return Some(format!(
                    "the mounted directory is no longer {}: it was deleted or re-created, so this volume does not work until the pod is re-created",
                    live.display()
                ));
            }
            Err(error) => return Some(report::chain(&error)),
        }
        self.lacks_agent(&live, trouble)
    }

    /// Looks at the agent's directory on another thread. A look that hangs, because the agent's file system does, occupies
    /// one thread, however many follow. Calls of the kubelet look only in this way. The look itself must end within `patience`,
    /// and may wait as long for others.
    ///
    /// # Errors
    /// [`SocketDirError::Silent`] if it takes longer, or panics, and [`SocketDirError::Busy`] if others do.
    pub async fn look_within<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        look: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> Result<T, SocketDirError> {
        let this = self.clone();
        let looked = self.looks.within(patience, move || {
            if let Err(error) = this.prepare() {
                debug!(error = report::chain(&error), "the agent's directory cannot be used yet");
            }
            look(&this)
        });
        looked.await.map_err(|why| self.unanswered(why))
    }

    /// The same for a caller that blocks.
    ///
    /// # Errors
    /// [`SocketDirError::Silent`] and [`SocketDirError::Busy`].
    pub fn look_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SocketDirError> {
        self.looks.within_blocking(PATIENCE, look).map_err(|why| self.unanswered(why))
    }

    /// The same for looks that should be short.
    ///
    /// # Errors
    /// [`SocketDirError::Silent`] and [`SocketDirError::Busy`].
    pub async fn look_soon<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> Result<T, SocketDirError> {
        self.look_within(PATIENCE, look).await
    }

    /// Whether an agent is reached through the directory that pods get.
    pub async fn is_up(self: &Arc<Self>) -> bool {
        match self.look_soon(|this| this.lacks_agent(&this.live(), None).is_none()).await {
            Ok(is_up) => {
                self.was_up.store(is_up, Ordering::Relaxed);
                is_up
            }
            Err(SocketDirError::Busy(_)) => self.was_up.load(Ordering::Relaxed),
            Err(_) => false,
        }
    }

    /// The agent's directory, after a link of root's; as configured if its file system does not answer.
    pub async fn found_at(self: &Arc<Self>) -> PathBuf {
        self.look_soon(|this| this.located()).await.unwrap_or_else(|_| self.agent.clone())
    }

    /// Why no agent is reached through a directory of pods.
    fn lacks_agent(&self, shown: &Path, trouble: Option<FsError>) -> Option<String> {
        let found = agent_folder::sockets_below(shown).and_then(|sockets| Ok((any_accepts(&sockets)?, sockets.len())));
        let (alive, count) = match found {
            Ok(found) => found,
            Err(error) => return Some(report::chain(&error)),
        };
        let agent = self.located();
        (!alive).then(|| match (trouble, count) {
            (Some(error), _) => report::chain(&error),
            (None, 0) => format!("there is no socket in {}: the agent is not running", agent.display()),
            (None, _) => format!("no socket in {} accepts connections: the agent is not running", agent.display()),
        })
    }
}

/// The agent's directory as this process sees it. `path_of` finds a path of the driver.
pub fn seen(agent: &AgentFacts, path_of: impl Fn(&str) -> PathBuf) -> AgentSeen {
    let folder = path_of(&agent.path);
    let found = match listeners(&folder) {
        Ok(found) => found,
        Err(error) if error.source.kind() == ErrorKind::NotFound => return AgentSeen::Missing,
        Err(error) => return AgentSeen::Unknown(report::chain(&error)),
    };
    let as_the_driver_has_it = |socket: &Path| {
        Path::new(&agent.path).join(socket.strip_prefix(&folder).unwrap_or(socket)).display().to_string()
    };
    let sockets = found.iter().map(|(socket, listens)| (as_the_driver_has_it(socket), *listens)).collect();
    let stable = agent.stable.as_ref().filter(|_| agent.heals).map(|stable| path_of(stable));
    let shown = [Some(folder.clone()), stable];
    let ids = shown.iter().flatten().filter_map(|path| mount::file_id_of(path).ok().flatten()).collect();
    let closed = found.keys().filter(|socket| is_closed(socket)).map(|socket| as_the_driver_has_it(socket)).collect();
    let dangling = dangling(&folder, Path::new(&agent.path));
    let dangling = dangling.iter().map(|link| as_the_driver_has_it(link)).collect();
    AgentSeen::Directory { ids, sockets, closed, dangling }
}

/// Whether only some users may connect to a socket.
fn is_closed(socket: &Path) -> bool {
    const OTHERS_WRITE: u32 = 0o002;
    fs::symlink_metadata(socket).is_ok_and(|found| found.permissions().mode() & OTHERS_WRITE == 0)
}

/// The links in the agent's folder to names in it that do not exist. Other targets may exist for the agent alone.
fn dangling(folder: &Path, known_as: &Path) -> Vec<PathBuf> {
    let links = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let leads_nowhere = |link: &PathBuf| {
        let Ok(target) = fs::read_link(link) else { return false };
        let inside = target.strip_prefix(known_as).unwrap_or(&target);
        let is_inside = inside.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let gone = || fs::symlink_metadata(folder.join(inside)).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        is_inside && gone()
    };
    let mut found: Vec<_> = links.take(agent_folder::MOST_NAMES).filter(leads_nowhere).collect();
    found.sort_unstable();
    found
}

/// The sockets in a folder and in those below it, each with whether it has a listener. No link is followed.
fn listeners(folder: &Path) -> Result<BTreeMap<PathBuf, bool>, FsError> {
    agent_folder::open(folder)?;
    let found = agent_folder::sockets_below(folder)?.into_iter();
    found.map(|socket| accepts(&socket).map(|listens| (socket, listens))).collect()
}

/// Whether a socket has a listener. The path may be longer than the limit of an address.
///
/// # Errors
/// If that cannot be determined.
fn accepts(socket: &Path) -> Result<bool, FsError> {
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else { return Ok(false) };
    let Some(folder) = agent_folder::unless_missing(agent_folder::open(parent))? else { return Ok(false) };
    match uds::connect(&by_descriptor(&folder).join(name)) {
        Ok(()) => Ok(true),
        // An agent has no socket of another type.
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::PROTOTYPE) => Ok(false),
        Err(errno) => Err(FsError::of("connect to", socket)(errno)),
    }
}

/// Whether any of these sockets has a listener.
fn any_accepts(sockets: &[PathBuf]) -> Result<bool, FsError> {
    let mut first_trouble = Ok(false);
    for socket in sockets {
        match accepts(socket) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => first_trouble = first_trouble.and(Err(error)),
        }
    }
    first_trouble
}
