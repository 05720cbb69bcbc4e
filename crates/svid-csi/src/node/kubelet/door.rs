//! A listening socket that is bound again if its file is deleted or replaced: by a cleanup of the node, by a
//! reinstalled kubelet, or by an older driver that ends after this one has started.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::host::inotify::{self, Inotify};
use crate::net::accept::Acceptor;
use crate::net::uds::{self, BindError, Bound};
use crate::tasks::blocking;
use crate::telemetry::report;
use crate::telemetry::reported::Reported;

const NO_FILES: [&str; 0] = [];
/// The pause after a failed attempt to bind it again.
const PAUSE: Duration = Duration::from_millis(200);

/// A socket that is bound, or waits to be bound again.
#[derive(Debug)]
pub(in crate::node) struct Door {
    path: PathBuf,
    bound: Mutex<Option<Bound>>,
    /// Why it cannot be bound again.
    reported: Mutex<Reported>,
    /// Whether it is to be re-created although it works.
    renew: AtomicBool,
    look: Notify,
}

/// An event of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Turn {
    /// Its path no longer leads to it.
    Lost,
    /// It is bound again.
    Bound,
}

impl Door {
    /// Binds the socket.
    ///
    /// # Errors
    /// [`BindError`].
    pub(in crate::node) fn bind(path: &Path) -> Result<(Arc<Self>, UnixListener), BindError> {
        let (listener, bound) = uds::bind_private(path)?;
        let door = Door {
            path: path.to_owned(),
            bound: Mutex::new(Some(bound)),
            reported: Mutex::default(),
            renew: AtomicBool::default(),
            look: Notify::default(),
        };
        Ok((Arc::new(door), listener))
    }

    pub(in crate::node) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a client that connects to its path reaches this socket.
    ///
    /// # Errors
    /// If that cannot be determined.
    pub(super) fn is_open(&self) -> io::Result<bool> {
        self.bound().as_ref().map_or(Ok(false), Bound::is_there)
    }

    /// Triggers another check soon, because the obstacle may disappear without an event.
    pub(super) fn look_again(&self) {
        self.look.notify_one();
    }

    /// Re-creates the file, so that a kubelet that watches its folder connects again.
    pub(in crate::node) fn renew(&self) {
        self.renew.store(true, Ordering::Relaxed);
        self.look_again();
    }

    /// Removes its file.
    pub(in crate::node) fn close(&self) {
        self.bound().take();
    }

    /// Returns its connections forever. `turn` is called when it is lost or bound.
    pub(in crate::node) fn callers(
        self: Arc<Self>,
        listener: UnixListener,
        turn: impl Fn(Turn) + Send + Sync,
    ) -> impl Stream<Item = io::Result<UnixStream>> + Send {
        let watch = self.watch();
        let acceptor = Acceptor::of(self.path.display());
        let state = (self, listener, watch, turn, acceptor);
        stream::unfold(state, async |(door, mut listener, mut watch, turn, mut acceptor)| {
            loop {
                tokio::select! {
                    caller = acceptor.next(|context| listener.poll_accept(context)) => {
                        return Some((Ok(caller), (door, listener, watch, turn, acceptor)));
                    }
                    () = changed(watch.as_ref()) => {}
                    () = door.look.notified() => {}
                }
                // Before checking, so that no change is missed.
                watch = door.watch();
                if let Some(again) = door.clone().see_to_it(&turn).await {
                    listener = again;
                } else if door.reported().current().is_some() {
                    // A failed attempt changes the folder too, which must not cause the next one at once.
                    tokio::time::sleep(PAUSE).await;
                }
            }
        })
    }

    fn watch(&self) -> Option<Inotify> {
        let folder = self.path.parent().unwrap_or(&self.path);
        let watch = inotify::follow(folder, &NO_FILES);
        let failed = |error: &io::Error| warn!(socket = %self.path.display(), %error, "the socket's folder cannot be watched; only /livez notices if the socket is deleted");
        watch.inspect_err(failed).ok()
    }

    /// Binds it again if needed.
    async fn see_to_it(self: Arc<Self>, turn: &(impl Fn(Turn) + Sync)) -> Option<UnixListener> {
        let is_open = match self.is_open() {
            Ok(is_open) => is_open,
            Err(error) => {
                let path = self.path.clone();
                self.report(&BindError { path, source: error }, "cannot check whether the socket still exists");
                return None;
            }
        };
        let renews = self.renew.swap(false, Ordering::Relaxed);
        if is_open && !renews {
            self.reported().ends();
            return None;
        }
        turn(Turn::Lost);
        let door = self.clone();
        let bind = move || match door.bound().as_mut().filter(|_| is_open) {
            Some(bound) => bound.renew().map(|listener| (listener, None)),
            None => uds::bind_private(&door.path).map(|(listener, bound)| (listener, Some(bound))),
        };
        match blocking(bind).await.ok()? {
            Ok((listener, bound)) => {
                info!(socket = %self.path.display(), renews, "the socket was deleted, replaced or refreshed; bound it again");
                if bound.is_some() {
                    *self.bound() = bound;
                }
                self.reported().ends();
                turn(Turn::Bound);
                Some(listener)
            }
            Err(error) => {
                self.renew.fetch_or(renews, Ordering::Relaxed);
                self.report(
                    &error,
                    "the socket cannot be bound again; retrying when its folder changes; /livez fails if it was deleted or replaced",
                );
                None
            }
        }
    }

    fn report(&self, error: &BindError, what: &str) {
        let error = report::chain(error);
        if self.reported().is_new(error.clone()) {
            error!(error, "{what}");
        }
    }

    fn bound(&self) -> MutexGuard<'_, Option<Bound>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reported(&self) -> MutexGuard<'_, Reported> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn changed(watch: Option<&Inotify>) {
    match watch {
        Some(watch) if watch.changed().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
