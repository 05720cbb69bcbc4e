//! One connection of a pod, as the calls on it know it.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tonic::{Request, Status};

use super::endpoint::Endpoint;
use crate::metrics::Metrics;

/// How long after connecting a client may take to ask something.
const FIRST_CALL: Duration = Duration::from_secs(30);
/// How long a stream may take to make room for what is to be said next.
const STALLED: Duration = Duration::from_secs(10);

/// A connection by a volume's socket. Every call on it has it among its extensions.
#[derive(Debug)]
pub(super) struct Caller {
    /// The volume's.
    pub(super) endpoint: Arc<Endpoint>,
    asked: Notify,
    streams: Mutex<Vec<Weak<AtomicU64>>>,
    metrics: Arc<Metrics>,
}

/// How far a stream has come: the turn of what it was told last. The stream is open for as long as this is there.
#[derive(Debug)]
pub(super) struct Progress {
    taken: Arc<AtomicU64>,
    endpoint: Arc<Endpoint>,
}

impl Caller {
    pub(super) fn new(endpoint: Arc<Endpoint>, metrics: Arc<Metrics>) -> Self {
        metrics.workload_api_connected();
        Self { endpoint, asked: Notify::new(), streams: Mutex::default(), metrics }
    }

    /// Whose call it is.
    ///
    /// # Errors
    /// Where the call came by no volume's socket, which cannot be.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Arc<Self>, Status> {
        let caller = request.extensions().get::<Arc<Self>>().cloned();
        caller.ok_or_else(|| Status::internal("nobody knows by which socket this call came"))
    }

    /// A call has come.
    pub(super) fn asks(&self) {
        self.asked.notify_one();
    }

    /// One more stream.
    pub(super) fn opens_stream(&self) -> Progress {
        let taken = Arc::new(AtomicU64::new(self.endpoint.turn()));
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&taken));
        self.endpoint.streams.fetch_add(1, Ordering::Relaxed);
        Progress { taken, endpoint: self.endpoint.clone() }
    }

    /// Waits until there is a reason to end the connection: it never asks anything, or one of its streams is not read.
    ///
    /// No time is measured while there is nothing to wait for.
    pub(super) async fn is_of_no_use(&self) -> &'static str {
        let mut told = self.endpoint.told.subscribe();
        if timeout(FIRST_CALL, self.asked.notified()).await.is_err() {
            return "nothing was asked on it";
        }
        while told.changed().await.is_ok() {
            let turn = self.endpoint.turn();
            sleep(STALLED).await;
            if self.is_behind(turn) {
                return "a stream on it is not read";
            }
        }
        pending().await
    }

    fn is_behind(&self, turn: u64) -> bool {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().filter_map(Weak::upgrade).any(|taken| taken.load(Ordering::Relaxed) < turn)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.metrics.workload_api_disconnected();
    }
}

impl Progress {
    /// The stream has passed on what was said at that turn.
    pub(super) fn has_taken(&self, turn: u64) {
        self.taken.store(turn, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.endpoint.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
