//! The tasks of the process. If one ends before it was asked to, the process ends.

mod blocking;
mod looks;
mod stuck;

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

pub use self::blocking::blocking;
pub use self::looks::{Looks, NoAnswer};
pub use self::stuck::RuntimeWatch;

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// SIGTERM or SIGINT.
    BySignal,
    /// An essential task has failed.
    ByFailure,
}

/// SIGTERM and SIGINT, which no longer end the process once this exists.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to receive them.
    ///
    /// # Errors
    /// If that is not possible.
    pub fn receive() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

/// One of the threads for blocking work, for one kind of work that pods can request any number of times: CSI calls need the
/// other threads.
#[derive(Debug, Clone)]
pub struct OneThread(Arc<Semaphore>);

impl Default for OneThread {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl OneThread {
    /// Does the work when its turn comes.
    ///
    /// # Errors
    /// If it panics.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        let turn = self.0.clone().acquire_owned().await;
        blocking(move || {
            let _turn = turn;
            work()
        })
        .await
    }
}

/// All tasks of the process, and the signal to stop.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Tasks {
    /// The signal to stop, for tasks to wait on.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that must run until it is asked to stop. If it ends earlier, or with an error, the process ends.
    pub fn essential<E: std::error::Error>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let this = self.clone();
        let task = Box::pin(task);
        self.watched(async move {
            let ended = task.await;
            if let Err(error) = &ended {
                error!(task = name, error = crate::telemetry::report::chain(error), "a task failed; the process ends");
            } else if !this.stop.is_cancelled() {
                error!(task = name, "a task ended unexpectedly; the process ends");
            }
            if ended.is_err() || !this.stop.is_cancelled() {
                this.failed.cancel();
            }
        });
    }

    /// Starts a task that may end, or be ended, at any time. A panic in it ends the process, because otherwise its work
    /// would silently stop.
    pub fn detached(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let stop = self.stopping();
        // Boxed, because there is one for every volume, and a future inside another one takes up its size twice.
        let task = Box::pin(task);
        self.watched(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        })
    }

    fn watched(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let guard = EndsProcessOnPanic(self.failed.clone());
        self.spawn(async move {
            let guard = guard;
            task.await;
            drop(guard);
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        tokio::spawn(self.tracker.track_future(task)).abort_handle()
    }

    /// Waits for SIGTERM, SIGINT or the failure of a task.
    pub async fn until_stopped(&self, mut signals: Signals) -> Stopped {
        tokio::select! {
            _ = signals.terminate.recv() => Stopped::BySignal,
            _ = signals.interrupt.recv() => Stopped::BySignal,
            () = self.failed.cancelled() => Stopped::ByFailure,
        }
    }

    /// The number of tasks that have not ended.
    #[cfg(test)]
    pub(crate) fn number(&self) -> usize {
        self.tracker.len()
    }

    /// Asks all tasks to stop.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Waits until all tasks have ended.
    pub async fn ended(&self) {
        self.tracker.wait().await;
    }
}

struct EndsProcessOnPanic(CancellationToken);

impl Drop for EndsProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}
