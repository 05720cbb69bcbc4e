//! One connection of a pod, as seen by its calls.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::endpoint::Endpoint;
use super::share::{Full, Share, Taken};
use crate::telemetry::metrics::Metrics;

/// How long after connecting a client may take to send a call.
const FIRST_CALL: Duration = Duration::from_secs(30);
/// How long a message may take to reach the client, and a stream to accept the next one.
const STALLED: Duration = Duration::from_secs(10);

/// The number of concurrent calls on the first connections of a pod, which clients expect (RFC 9113, 6.5.2).
const STREAMS: u32 = 100;
/// The number on the other connections. The state of HTTP/2 for a connection grows with it, and is kept until the
/// connection ends.
const FEWER_STREAMS: u32 = 16;

/// A connection to a volume's socket.
#[derive(Debug)]
pub(super) struct Caller {
    /// The volume's.
    pub(super) endpoint: Arc<Endpoint>,
    asked: Notify,
    opened: Notify,
    streams: Mutex<Streams>,
    sent: Notify,
    sending: Mutex<Sending>,
    metrics: Arc<Metrics>,
    /// Whether it is one of the connections reserved for its pod.
    is_own: bool,
}

/// Parts of responses that were passed to HTTP/2, which keeps them until the client lets them be sent.
#[derive(Debug, Default)]
struct Sending {
    /// The number of all parts so far.
    begun: u64,
    /// The parts that are not completely sent.
    unsent: BTreeSet<u64>,
}

/// One unsent part.
struct Part {
    data: Bytes,
    _room: Vec<Taken>,
    number: u64,
    caller: Arc<Caller>,
}

#[derive(Debug, Default)]
struct Streams {
    /// The number opened so far.
    opened: u64,
    open: Vec<Weak<Taking>>,
}

#[derive(Debug)]
struct Taking {
    number: u64,
    /// The number of the update it sent last; 0 before the first.
    turn: AtomicU64,
}

/// The progress of a stream, which is open until this is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    taking: Arc<Taking>,
    endpoint: Arc<Endpoint>,
}

impl Caller {
    pub(super) fn new(endpoint: Arc<Endpoint>, metrics: Arc<Metrics>, is_own: bool) -> Self {
        metrics.workload_api_connected();
        endpoint.connections.fetch_add(1, Ordering::Relaxed);
        let [asked, opened, sent] = [(); 3].map(|()| Notify::new());
        let (streams, sending) = (Mutex::default(), Mutex::default());
        Self { endpoint, asked, opened, streams, sent, sending, metrics, is_own }
    }

    /// The maximum number of concurrent calls on it.
    pub(super) fn streams(&self) -> u32 {
        if self.is_own { STREAMS } else { FEWER_STREAMS }
    }

    /// Records a call.
    pub(super) fn asks(&self) {
        self.asked.notify_one();
    }

    /// Records that a call was refused because it exceeds the share of the pod.
    pub(super) fn refused(&self, share: &Share, full: Full) {
        self.metrics.workload_api_refused_call();
        self.endpoint.shares.refused(share, full);
    }

    /// Adds a stream.
    pub(super) fn opens_stream(&self) -> Progress {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.open.retain(|stream| stream.strong_count() > 0);
        let taking = Arc::new(Taking { number: streams.opened, turn: AtomicU64::new(0) });
        streams.opened += 1;
        streams.open.push(Arc::downgrade(&taking));
        self.endpoint.streams.fetch_add(1, Ordering::Relaxed);
        self.opened.notify_one();
        Progress { taking, endpoint: self.endpoint.clone() }
    }

    /// A part of a response, which counts as unsent, and keeps its reservation, until HTTP/2 drops it.
    pub(super) fn sends(self: &Arc<Self>, data: Bytes, room: Vec<Taken>) -> Bytes {
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let number = sending.begun;
        sending.begun += 1;
        sending.unsent.insert(number);
        self.sent.notify_one();
        Bytes::from_owner(Part { data, _room: room, number, caller: self.clone() })
    }

    /// Waits for a reason to end the connection: no call is made, or one of its streams is not read.
    ///
    /// No timer runs while there is nothing to wait for.
    pub(super) async fn is_of_no_use(&self) -> &'static str {
        let mut identity = self.endpoint.identity.subscribe();
        if timeout(FIRST_CALL, self.asked.notified()).await.is_err() {
            return "the client made no call";
        }
        loop {
            tokio::select! {
                changed = identity.changed() => if changed.is_err() {
                    return pending().await;
                },
                () = self.opened.notified() => {}
                () = self.sent.notified() => {}
            }
            let (turn, opened, begun) = (self.endpoint.turn(), self.opened(), self.begun());
            sleep(STALLED).await;
            if self.is_behind(turn, opened) || self.holds_back(begun) {
                return "the client does not read one of its streams";
            }
        }
    }

    fn opened(&self) -> u64 {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).opened
    }

    fn begun(&self) -> u64 {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner).begun
    }

    /// Whether any of the parts that had begun by then is still unsent.
    fn holds_back(&self, begun: u64) -> bool {
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        sending.unsent.first().is_some_and(|oldest| *oldest < begun)
    }

    /// Whether any of the streams that were open at that update has not sent it yet.
    fn is_behind(&self, turn: u64, opened: u64) -> bool {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = streams.open.iter().filter_map(Weak::upgrade);
        open.any(|taking| taking.number < opened && taking.turn.load(Ordering::Relaxed) < turn)
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.caller.sending.lock().unwrap_or_else(PoisonError::into_inner).unsent.remove(&self.number);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.metrics.workload_api_disconnected();
        self.endpoint.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Progress {
    /// Records that the stream has sent that update.
    pub(super) fn has_taken(&self, turn: u64) {
        self.taking.turn.store(turn, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.endpoint.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
