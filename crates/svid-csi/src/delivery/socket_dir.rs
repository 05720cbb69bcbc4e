//! Delivery `socket-dir`: the agent's socket directory, as a mount that survives the agent.
//!
//! Where the driver can hard-link the agent's sockets, pods get a *stable* directory of the driver's own, which follows
//! the agent's through deletion and re-creation. Where it cannot (the two must lie on one mount), pods get a *plain* bind
//! of the agent's directory, which is dead for ever once that directory is re-created; stats then say so.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use svid_csi_core::state::FileId;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::watch::Watch;
use super::{links, views};
use crate::data_root::DataRoot;
use crate::fsx::{self, FsError};
use crate::mount::{self, MountError, MountSource};
use crate::node::config::AgentDir;

/// The directory that pods get.
#[derive(Debug)]
pub struct SocketDir {
    agent: PathBuf,
    stable: Option<PathBuf>,
    views: Option<PathBuf>,
    current: Mutex<Option<FileId>>,
    linking: Mutex<()>,
    /// The agent's directory turned out to be on another mount: sockets cannot be linked.
    apart: AtomicBool,
    /// Changes are being noticed as they happen.
    followed: AtomicBool,
}

/// Why the agent's sockets cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum SocketDirError {
    /// The agent's directory is not there and cannot be stood in for.
    #[error(
        "the agent's socket directory {} does not exist yet (--workload-api-socket-dir); is the agent running?", .0.display()
    )]
    NoAgent(PathBuf),
    /// The agent's directory was deleted under the driver's own mount of it.
    #[error(
        "the agent's socket directory {} was deleted or re-created on the host, and this driver still has the old one: restart \
         the driver's pod, and mount the directory above it instead (mountPropagation: HostToContainer), so that svid-csi can \
         follow it", .0.display()
    )]
    Deleted(PathBuf),
    /// `--stable-socket-dir` lies on another mount than the agent's directory.
    #[error(
        "--stable-socket-dir {} is not on the same mount as {}, so sockets cannot be linked into it: mount the directory \
         above both as one hostPath volume", .stable.display(), .agent.display()
    )]
    OtherMount {
        /// The stable directory.
        stable: PathBuf,
        /// The agent's.
        agent: PathBuf,
    },
    /// A read-only mount was asked for, and there is nothing to make it from.
    #[error(
        "a volume without readOnly: true needs a --data-root, or the agent's directory mounted read-only into the driver"
    )]
    NoReadOnlyView,
    /// A file system call failed.
    #[error(transparent)]
    File(#[from] FsError),
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] MountError),
}

impl SocketDir {
    /// Decides between the stable directory and the plain bind, and links what is there.
    ///
    /// # Errors
    /// [`SocketDirError::OtherMount`] when a stable directory was asked for and cannot work.
    pub fn open(config: &AgentDir, data: Option<&DataRoot>) -> Result<Self, SocketDirError> {
        let agent = config.path.clone();
        let stable = match &config.stable {
            Some(stable) => Some(explicit(&agent, stable)?),
            None => beside(&agent)?,
        };
        let views = data.map(DataRoot::tmpfs);
        let socket_dir = SocketDir {
            agent,
            stable,
            views,
            current: Mutex::default(),
            linking: Mutex::default(),
            apart: AtomicBool::default(),
            followed: AtomicBool::default(),
        };
        socket_dir.synchronise();
        Ok(socket_dir)
    }

    /// Whether volumes follow the agent's directory when it is re-created.
    pub fn heals(&self) -> bool {
        self.stable.is_some() && !self.apart.load(Ordering::Relaxed)
    }

    /// What is mounted into pods now.
    ///
    /// # Errors
    /// [`SocketDirError::NoAgent`] among others.
    pub fn source(&self, read_only: bool) -> Result<MountSource, SocketDirError> {
        let is_missing = self.stable.as_ref().map_or(Ok(false), |stable| fsx::exists(stable).map(|there| !there))?;
        if let Some(stable) = self.stable.as_ref().filter(|_| is_missing) {
            fsx::ensure_dir(stable, 0o755)?;
        }
        if is_missing || !self.followed.load(Ordering::Relaxed) {
            self.synchronise();
        }
        let live = self.live();
        let id = mount::file_id_of(live)?.ok_or_else(|| SocketDirError::NoAgent(self.agent.clone()))?;
        if mount::is_deleted(live)? {
            return Err(SocketDirError::Deleted(self.agent.clone()));
        }
        let Some(views) = &self.views else { return without_view(live, read_only) };
        let (writable, locked) = (views.join("agent"), views.join("agent-read-only"));
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != Some(id) {
            let source = MountSource::open(live)?;
            views::ensure(&source, &writable, false)?;
            views::ensure(&source, &locked, true)?;
            *current = Some(id);
        }
        Ok(MountSource::open(if read_only { &locked } else { &writable })?)
    }

    /// Whether `root` is a directory that pods are given now.
    ///
    /// # Errors
    /// [`MountError`] where that cannot be told.
    pub fn is_current(&self, root: FileId) -> Result<bool, MountError> {
        let root = Some(root);
        Ok(mount::file_id_of(self.live())? == root || mount::file_id_of(&self.agent)? == root)
    }

    /// Why a volume whose mount shows `root` is of no use, if it is not. Looks at the agent's directory afresh: a mount
    /// over it causes no event.
    pub fn trouble(&self, root: FileId) -> Option<String> {
        let trouble = self.synchronise();
        match self.is_current(root).and_then(|current| Ok(current && !mount::is_deleted(self.live())?)) {
            Ok(true) => {}
            Ok(false) => {
                return Some(format!(
                    "the mounted directory is no longer {}: it was deleted or re-created, so this volume is dead until the pod is re-created",
                    self.live().display()
                ));
            }
            Err(error) => return Some(crate::report::chain(&error)),
        }
        let sockets = match links::sockets(self.live()) {
            Ok(sockets) => sockets,
            Err(error) => return Some(crate::report::chain(&error)),
        };
        let alive = sockets.keys().any(|name| accepts(&self.live().join(name)));
        (!alive).then(|| match sockets.len() {
            _ if trouble.is_some() => trouble.unwrap_or_default(),
            0 => format!("there is no socket in {}: the agent is not running", self.agent.display()),
            _ => format!("no socket in {} accepts connections: the agent is not running", self.agent.display()),
        })
    }

    /// Follows the agent's directory until `stop`. Where it cannot be watched, each publish and each look at a volume
    /// compares instead, and watching is tried again.
    ///
    /// # Errors
    /// A worker did not end as it should.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) -> std::io::Result<()> {
        let mut pause = FIRST_PAUSE;
        while self.stable.is_some() && !stop.is_cancelled() {
            let watched = tokio::select! {
                watched = self.watch() => watched,
                () = stop.cancelled() => return Ok(()),
            };
            if let Err(error) = watched {
                warn!(%error, agent = %self.agent.display(), "the agent's directory cannot be watched; this is tried again");
            }
            let was_followed = self.followed.swap(false, Ordering::Relaxed);
            pause = if was_followed { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        stop.cancelled().await;
        Ok(())
    }

    async fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        if let Some(parent) = self.agent.parent() {
            fs::create_dir_all(parent)?;
        }
        let watch = Watch::new(&self.agent)?;
        loop {
            watch.rearm()?;
            let socket_dir = self.clone();
            tokio::task::spawn_blocking(move || socket_dir.synchronise()).await?;
            self.followed.store(true, Ordering::Relaxed);
            watch.changed().await?;
        }
    }

    fn live(&self) -> &Path {
        match &self.stable {
            Some(stable) if self.heals() => stable,
            _ => &self.agent,
        }
    }

    /// Compares and links. Tells what is in the way, if anything is.
    fn synchronise(&self) -> Option<String> {
        let stable = self.stable.as_ref()?;
        let _one_at_a_time = self.linking.lock().unwrap_or_else(PoisonError::into_inner);
        let (changes, trouble) = links::synchronise(&self.agent, stable);
        if changes != links::Changes::default() {
            info!(linked = ?changes.linked, dropped = ?changes.dropped, "followed the agent's sockets");
        }
        let apart = trouble.as_ref().is_some_and(|error| error.source.kind() == std::io::ErrorKind::CrossesDevices);
        if self.apart.swap(apart, Ordering::Relaxed) != apart {
            warn!(apart, agent = %self.agent.display(), "the agent's directory is on another mount than the stable one: while it is, new pods get a plain mount of it, which does not heal");
        }
        let trouble = trouble.filter(|_| !apart).map(|error| crate::report::chain(&error));
        if let Some(error) = &trouble {
            error!(error, "cannot follow the agent's sockets; pods keep the old ones");
        }
        trouble
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

fn explicit(agent: &Path, stable: &Path) -> Result<PathBuf, SocketDirError> {
    let parent = agent.parent().unwrap_or(agent);
    for folder in [stable, parent] {
        fs::create_dir_all(folder).map_err(FsError::of("create the folder", folder))?;
    }
    let nearest = if fsx::exists(agent)? { agent } else { parent };
    if mount_id(nearest)? == mount_id(stable)? {
        Ok(stable.to_owned())
    } else {
        Err(SocketDirError::OtherMount { stable: stable.to_owned(), agent: agent.to_owned() })
    }
}

/// The hidden sibling of the agent's directory, where the two can share sockets.
fn beside(agent: &Path) -> Result<Option<PathBuf>, SocketDirError> {
    let (Some(parent), Some(name)) = (agent.parent(), agent.file_name().and_then(|name| name.to_str())) else {
        return Ok(None);
    };
    let same_mount =
        if fsx::exists(agent)? { mount_id(agent)? == mount_id(parent)? } else { fs::create_dir_all(parent).is_ok() };
    let stable = parent.join(format!(".{name}.svid-csi"));
    let usable = same_mount && fsx::ensure_dir(&stable, 0o755).is_ok();
    if !usable {
        warn!(
            agent = %agent.display(),
            "volumes will be dead if the agent's socket directory is ever deleted and re-created: mount the directory above it \
             into the driver as one writable hostPath volume (mountPropagation: HostToContainer), so that svid-csi can keep a \
             stable directory beside it"
        );
    }
    Ok(usable.then_some(stable))
}

fn without_view(live: &Path, read_only: bool) -> Result<MountSource, SocketDirError> {
    let is_read_only =
        rustix::fs::statvfs(live).is_ok_and(|statvfs| statvfs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    if read_only && !is_read_only {
        return Err(SocketDirError::NoReadOnlyView);
    }
    Ok(MountSource::open(live)?)
}

/// Compared at one instant within one namespace only: mount ids are recycled.
fn mount_id(path: &Path) -> Result<u64, FsError> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID);
    stat.map(|stat| stat.stx_mnt_id).map_err(FsError::of("look at", path))
}

/// Whether connect(2) reaches a listener. A full backlog does. The path may be longer than an address can be.
fn accepts(socket: &Path) -> bool {
    let folder = socket.parent().and_then(|folder| fs::File::open(folder).ok());
    let (Some(folder), Some(name)) = (folder, socket.file_name()) else { return false };
    let socket = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (Ok(address), Ok(client)) =
        (SocketAddrUnix::new(&socket), rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None))
    else {
        return false;
    };
    matches!(rustix::net::connect(&client, &address), Ok(()) | Err(rustix::io::Errno::AGAIN))
}
