//! Delivery `socket-dir`: the agent's socket directory, as a mount that survives the agent.
//!
//! Where the driver can hard-link the agent's sockets, pods get a *stable* directory of the driver's own, which follows
//! the agent's through deletion and re-creation. Where it cannot (the two must lie on one mount), pods get a *plain* bind
//! of the agent's directory, which is dead for ever once that directory is re-created; stats then say so.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

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
}

/// Why the agent's sockets cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum SocketDirError {
    /// The agent's directory is not there and cannot be stood in for.
    #[error(
        "the agent's socket directory {} does not exist yet (--workload-api-socket-dir); is the agent running?", .0.display()
    )]
    NoAgent(PathBuf),
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
            None => beside(&agent),
        };
        let views = data.map(DataRoot::tmpfs);
        let socket_dir = SocketDir { agent, stable, views, current: Mutex::new(None), linking: Mutex::new(()) };
        socket_dir.synchronise();
        Ok(socket_dir)
    }

    /// Whether volumes follow the agent's directory when it is re-created.
    pub fn heals(&self) -> bool {
        self.stable.is_some()
    }

    /// What is mounted into pods now.
    ///
    /// # Errors
    /// [`SocketDirError::NoAgent`] among others.
    pub fn source(&self, read_only: bool) -> Result<MountSource, SocketDirError> {
        let live = self.live();
        if let Some(stable) = self.stable.as_ref().filter(|stable| !stable.is_dir()) {
            fsx::ensure_dir(stable, 0o755)?;
            self.synchronise();
        }
        let id = mount::file_id_of(live).ok_or_else(|| SocketDirError::NoAgent(self.agent.clone()))?;
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
    pub fn is_current(&self, root: FileId) -> bool {
        mount::file_id_of(self.live()) == Some(root) || mount::file_id_of(&self.agent) == Some(root)
    }

    /// Why a volume whose mount shows `root` is of no use, if it is not. Looks at the agent's directory afresh: a mount
    /// over it causes no event.
    pub fn trouble(&self, root: FileId) -> Option<String> {
        self.synchronise();
        if !self.is_current(root) {
            return Some(format!(
                "the mounted directory is no longer {}: it was deleted or re-created, so this volume is dead until the pod is re-created",
                self.live().display()
            ));
        }
        let sockets = match links::sockets(self.live()) {
            Ok(sockets) => sockets,
            Err(error) => return Some(crate::report::chain(&error)),
        };
        let alive = sockets.keys().any(|name| accepts(&self.live().join(name)));
        (!alive).then(|| match sockets.len() {
            0 => format!("there is no socket in {}: the agent is not running", self.agent.display()),
            _ => format!("no socket in {} accepts connections: the agent is not running", self.agent.display()),
        })
    }

    /// Follows the agent's directory until `stop`.
    ///
    /// # Errors
    /// The directory can no longer be watched.
    pub async fn follow(self: std::sync::Arc<Self>, stop: CancellationToken) -> std::io::Result<()> {
        if !self.heals() {
            stop.cancelled().await;
            return Ok(());
        }
        let watch = Watch::new(&self.agent)?;
        loop {
            watch.rearm()?;
            let socket_dir = self.clone();
            tokio::task::spawn_blocking(move || socket_dir.synchronise()).await?;
            tokio::select! {
                changed = watch.changed() => changed?,
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    fn live(&self) -> &Path {
        self.stable.as_deref().unwrap_or(&self.agent)
    }

    fn synchronise(&self) {
        let Some(stable) = &self.stable else { return };
        let _one_at_a_time = self.linking.lock().unwrap_or_else(PoisonError::into_inner);
        match links::synchronise(&self.agent, stable) {
            Ok(changes) if changes == links::Changes::default() => {}
            Ok(changes) => info!(linked = ?changes.linked, dropped = ?changes.dropped, "followed the agent's sockets"),
            Err(error) => error!(
                error = crate::report::chain(&error),
                "cannot follow the agent's sockets; pods keep the old ones"
            ),
        }
    }
}

fn explicit(agent: &Path, stable: &Path) -> Result<PathBuf, SocketDirError> {
    fs::create_dir_all(stable).map_err(FsError::of("create the folder", stable))?;
    let nearest = if agent.exists() { agent } else { agent.parent().unwrap_or(agent) };
    if mount_id(nearest) == mount_id(stable) {
        Ok(stable.to_owned())
    } else {
        Err(SocketDirError::OtherMount { stable: stable.to_owned(), agent: agent.to_owned() })
    }
}

/// The hidden sibling of the agent's directory, where the two can share sockets.
fn beside(agent: &Path) -> Option<PathBuf> {
    let (parent, name) = (agent.parent()?, agent.file_name()?.to_str()?);
    let same_mount =
        if agent.exists() { mount_id(agent) == mount_id(parent) } else { fs::create_dir_all(parent).is_ok() };
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
    usable.then_some(stable)
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
fn mount_id(path: &Path) -> Option<u64> {
    rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok().map(|stat| stat.stx_mnt_id)
}

/// Whether connect(2) reaches a listener. A full backlog does.
fn accepts(socket: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (Ok(address), Ok(client)) =
        (SocketAddrUnix::new(socket), rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None))
    else {
        return false;
    };
    matches!(rustix::net::connect(&client, &address), Ok(()) | Err(rustix::io::Errno::AGAIN))
}
