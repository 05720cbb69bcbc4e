//! Work that blocks, on the runtime's threads for it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinHandle;
use tracing::Span;

static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);

/// Counts the end of work even if it panics.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        ENDED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Does work that blocks, when a thread for it is free. All such work is counted, so that a driver whose threads hang is
/// told apart from a busy one. The span of the caller is that of the work.
#[expect(clippy::disallowed_methods, reason = "the one place that counts blocking work")]
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    BEGUN.fetch_add(1, Ordering::Relaxed);
    let span = Span::current();
    tokio::task::spawn_blocking(move || {
        let _ends = Ends;
        span.in_scope(work)
    })
}

/// How much work has been requested, and how much of it has ended.
pub(super) fn blocking_work() -> (u64, u64) {
    // In this order: what has ended was requested earlier.
    let ended = ENDED.load(Ordering::Acquire);
    (BEGUN.load(Ordering::Acquire), ended)
}
