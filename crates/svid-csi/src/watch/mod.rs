//! Follows the identities of a pod over the Workload API or in files, prints each update, and runs an action on each
//! change. It is the example workload, and the tool to inspect a pod.

mod action;
mod children;
mod files;
mod socket;
mod token;
mod trouble;
mod update;
mod wait_reason;

use std::future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal};
use svid_csi_core::files::FileName;
use svid_csi_core::x509_context::X509Context;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, warn};

use self::children::Children;
use self::files::FilesSource;
use self::socket::SocketSource;
use self::token::FetchedToken;
use self::update::Update;
use crate::host::clock;
use crate::spiffe::bundle_warnings::BundleWarnings;
use crate::tasks::{Signals, Tasks};
use crate::telemetry::report;

/// The mount path of the volume with the socket in most manifests.
const MOUNT: &str = "/spiffe-workload-api";

/// The names of the socket there; the second is that of SPIRE's examples.
const SOCKETS: [&str; 2] = ["agent.sock", "spire-agent.sock"];

/// The source to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The Workload API on this socket.
    Socket(PathBuf),
    /// The Workload API on the socket in `/spiffe-workload-api`.
    MountedSocket,
    /// Files in a folder, which may appear later.
    Files {
        /// The folder.
        folder: PathBuf,
        /// Which files.
        names: WatchedNames,
    },
}

/// The files of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedNames {
    /// The certificate chain.
    pub cert: FileName,
    /// The private key; if it is in the same file as the chain, that is a credential bundle.
    pub key: FileName,
    /// The trust bundle, which may be missing.
    pub bundle: FileName,
}

/// The action on each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a program with its arguments; never empty.
    Exec(Vec<String>),
    /// Sends a signal to a process.
    Signal(Pid, Signal),
}

/// The source to watch, and the action on each change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    /// The source to watch.
    pub origin: Origin,
    /// The audiences for which to fetch JWT-SVIDs with each update.
    pub audiences: Vec<String>,
    /// How long to wait for the first update; only set if that is also the last one.
    pub once: Option<Duration>,
    /// Whether updates are printed as JSON.
    pub json: bool,
    /// The action on each change.
    pub action: Option<Action>,
}

/// Why watching ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The default socket does not exist.
    #[error("there is no {MOUNT}: mount the volume there, set SPIFFE_ENDPOINT_SOCKET, or give --socket or --files")]
    NoMount,
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    /// Updates cannot be printed.
    #[error("cannot write to stdout")]
    Output(#[source] io::Error),
    /// No update arrived in time.
    #[error("nothing to show after {} s: {reason}", limit.as_secs_f64())]
    TimedOut {
        /// The time that was waited.
        limit: Duration,
        /// The last reason for waiting.
        reason: String,
    },
    /// The update was printed, but a requested token is missing.
    #[error("no JWT-SVID for the audience {audience:?}: {reason}")]
    NoToken {
        /// Which audience.
        audience: String,
        /// The server's answer.
        reason: String,
    },
}

/// One state of the source.
struct CurrentIdentity {
    context: X509Context,
    tokens: Vec<FetchedToken>,
}

enum IdentitySource {
    Socket(Box<SocketSource>),
    Files(Box<FilesSource>),
}

/// Watches until SIGTERM or SIGINT, or with `once` until the first update.
///
/// # Errors
/// [`WatchError`]. Temporary failures are waited out instead.
pub async fn run(options: WatchOptions) -> Result<(), WatchError> {
    let signals = Signals::receive().map_err(WatchError::Signals)?;
    let children = Children::new().map_err(WatchError::Signals)?;
    let source = IdentitySource::open(&options)?;
    let (sender, updates) = watch::channel(None);
    let work = async {
        let acted = action::run(options.action.clone(), updates, children);
        tokio::join!(follow(source, &options, sender), acted).0
    };
    let tasks = Tasks::default();
    tokio::select! {
        ended = work => ended,
        _ = tasks.until_stopped(signals) => Ok(()),
    }
}

/// Prints each update and passes it on. The receivers of `updates` end with this function.
async fn follow(
    mut source: IdentitySource,
    options: &WatchOptions,
    updates: watch::Sender<Option<Update>>,
) -> Result<(), WatchError> {
    let (mut shown, mut number, mut ends) = (String::new(), 0, None);
    let (bundle_warnings, mut last) = (BundleWarnings::default(), None);
    loop {
        let seen = match options.once {
            None => expiring(source.next(), ends).await,
            Some(limit) => match timeout(limit, source.next()).await {
                Ok(seen) => seen,
                Err(_elapsed) => return Err(WatchError::TimedOut { limit, reason: source.waits_for() }),
            },
        };
        ends = Some(seen.context.held().not_after);
        bundle_warnings.report(&seen.context);
        let CurrentIdentity { context, tokens } = seen;
        let context = context.or_last_good(last.as_ref());
        last = Some(context.clone());
        let seen = CurrentIdentity { context, tokens };
        let digest = seen.context.digest();
        if std::mem::replace(&mut shown, digest.clone()) == digest {
            debug!("the same identity again");
            continue;
        }
        number += 1;
        let update = Update::new(number, clock::now(), source.path(), seen);
        show(&update, options.json).map_err(WatchError::Output)?;
        let missing = update.missing_token();
        updates.send_replace(Some(update));
        if options.once.is_some() {
            return missing.map_or(Ok(()), |(audience, reason)| Err(WatchError::NoToken { audience, reason }));
        }
    }
}

/// Waits for the next state, and warns if the last one expires first.
async fn expiring(next: impl Future<Output = CurrentIdentity>, ends: Option<SystemTime>) -> CurrentIdentity {
    let mut next = pin!(next);
    let expired = async {
        match ends {
            Some(ends) => tokio::time::sleep(ends.duration_since(clock::now()).unwrap_or_default()).await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        seen = &mut next => return seen,
        () = expired => warn!(ended = ends.map(report::rfc3339), "the identity has expired, and no new one has arrived"),
    }
    next.await
}

fn show(update: &Update, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, update)?;
        writeln!(out)?;
    } else {
        write!(out, "{update}")?;
    }
    out.flush()
}

impl IdentitySource {
    fn open(options: &WatchOptions) -> Result<Self, WatchError> {
        let socket = match &options.origin {
            Origin::Files { folder, names } => {
                return Ok(Self::Files(Box::new(FilesSource::new(folder.clone(), names.clone()))));
            }
            Origin::Socket(socket) => socket.clone(),
            Origin::MountedSocket => mounted_socket(Path::new(MOUNT))?,
        };
        Ok(Self::Socket(Box::new(SocketSource::new(socket, options.audiences.clone()))))
    }

    /// The next state. Waits for it forever, and logs the reason.
    async fn next(&mut self) -> CurrentIdentity {
        match self {
            Self::Socket(socket) => socket.next().await,
            Self::Files(files) => files.next().await,
        }
    }

    fn waits_for(&self) -> String {
        match self {
            Self::Socket(socket) => socket.waits_for(),
            Self::Files(files) => files.waits_for(),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Socket(socket) => socket.path(),
            Self::Files(files) => files.path(),
        }
    }
}

/// The socket that exists; the first one if none exists yet.
fn mounted_socket(mount: &Path) -> Result<PathBuf, WatchError> {
    let sockets = SOCKETS.map(|name| mount.join(name));
    match sockets.iter().find(|socket| std::fs::metadata(socket).is_ok()) {
        Some(socket) => Ok(socket.clone()),
        None if std::fs::metadata(mount).is_ok_and(|mount| mount.is_dir()) => Ok(mount.join(SOCKETS[0])),
        None => Err(WatchError::NoMount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_existing_socket_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path();
        assert_eq!(mounted_socket(mount).unwrap(), mount.join("agent.sock"));
        std::fs::write(mount.join("spire-agent.sock"), "").unwrap();
        assert_eq!(mounted_socket(mount).unwrap(), mount.join("spire-agent.sock"));
        std::fs::write(mount.join("agent.sock"), "").unwrap();
        assert_eq!(mounted_socket(mount).unwrap(), mount.join("agent.sock"));
        let missing = mounted_socket(&mount.join("none")).unwrap_err().to_string();
        assert!(missing.contains("give --socket or --files"), "{missing}");
    }
}
