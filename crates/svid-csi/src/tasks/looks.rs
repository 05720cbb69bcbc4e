//! Looks at places that may never answer, such as a file system in the hands of another program.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Span;

use super::blocking;

/// How long to wait for a look that has taken too long.
const GRACE: Duration = Duration::from_secs(1);

/// Looks at one place: one at a time, in the order of their requests. If one hangs, it takes up one of the threads for blocking
/// work, however many follow.
#[derive(Debug, Clone, Default)]
pub struct Looks(Arc<Mutex<LookQueue>>);

/// Why a look has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// The place does not answer: this look, or one and the same before it, has taken too long.
    Silent,
    /// Other looks were in front of it for too long.
    Busy,
    /// It panicked.
    Failed,
}

#[derive(Default)]
struct LookQueue {
    waiting: VecDeque<(u64, Job)>,
    /// How many were requested.
    requested: u64,
    /// How many have ended.
    ended: u64,
    current: Option<Current>,
}

/// The look in progress.
#[derive(Debug)]
struct Current {
    thread: Option<ThreadId>,
    since: Instant,
}

type Job = Box<dyn FnOnce() + Send>;

impl fmt::Debug for LookQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LookQueue { waiting, requested, ended, current } = self;
        let mut debug = f.debug_struct("LookQueue");
        debug.field("waiting", &waiting.len()).field("requested", requested);
        debug.field("ended", ended).field("current", current).finish()
    }
}

impl Looks {
    /// Looks as soon as those before it have ended. Only the look itself must end within `patience`; it may wait as long for
    /// its turn.
    ///
    /// Cancel-safe: a look that has not begun is not done.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn within<T: Send + 'static>(
        &self,
        patience: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let ((begin, begun), (end, mut ended)) = (oneshot::channel(), oneshot::channel());
        let (ticket, turn) = self.request(patience, move || {
            if begin.send(()).is_ok() {
                let _ = end.send(look());
            }
        });
        match timeout(turn, begun).await {
            Ok(began) => began.map_err(|_| NoAnswer::Failed)?,
            Err(_elapsed) => return Err(ticket.why_not_begun()),
        }
        match timeout(patience, &mut ended).await {
            Ok(found) => found.map_err(|_| NoAnswer::Failed),
            Err(_elapsed) => Err(NoAnswer::Silent),
        }
    }

    /// The same for a caller that blocks. A look that is part of another one is done at once.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn within_blocking<T: Send + 'static>(
        &self,
        patience: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        if self.is_looking_here() {
            return Ok(look());
        }
        let ((begin, begun), (end, ended)) = (mpsc::channel(), mpsc::channel());
        let (ticket, turn) = self.request(patience, move || {
            if begin.send(()).is_ok() {
                let _ = end.send(look());
            }
        });
        begun.recv_timeout(turn).map_err(|why| match why {
            mpsc::RecvTimeoutError::Timeout => ticket.why_not_begun(),
            mpsc::RecvTimeoutError::Disconnected => NoAnswer::Failed,
        })?;
        ended.recv_timeout(patience).map_err(|why| match why {
            mpsc::RecvTimeoutError::Timeout => NoAnswer::Silent,
            mpsc::RecvTimeoutError::Disconnected => NoAnswer::Failed,
        })
    }

    /// Looks, however long it takes. Cancel-safe.
    ///
    /// # Errors
    /// If it panics.
    pub async fn at_leisure<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, io::Error> {
        let found = self.within(Duration::MAX, look).await;
        found.map_err(|_| io::Error::other("a look at a file system failed"))
    }

    /// Whether this is the thread that looks.
    fn is_looking_here(&self) -> bool {
        let here = thread::current().id();
        self.queue().current.as_ref().is_some_and(|current| current.thread == Some(here))
    }

    /// Returns also how long to wait for its turn: not as long if one look has taken longer already.
    fn request(&self, patience: Duration, look: impl FnOnce() + Send + 'static) -> (LookRequest<'_>, Duration) {
        let span = Span::current();
        let job = move || span.in_scope(look);
        let mut queue = self.queue();
        let hangs = queue.current.as_ref().is_some_and(|current| current.since.elapsed() > patience);
        let turn = if hangs { patience.min(GRACE) } else { patience };
        queue.requested += 1;
        let number = queue.requested;
        queue.waiting.push_back((number, Box::new(job)));
        if queue.current.is_none() {
            queue.current = Some(Current { thread: None, since: Instant::now() });
            let looks = self.clone();
            drop(blocking(move || looks.work()));
        }
        (LookRequest { looks: self, number, ended: queue.ended }, turn)
    }

    /// Looks until no request is left.
    fn work(&self) {
        loop {
            let mut queue = self.queue();
            let Some((_, job)) = queue.waiting.pop_front() else {
                queue.current = None;
                return;
            };
            queue.current = Some(Current { thread: Some(thread::current().id()), since: Instant::now() });
            drop(queue);
            // The caller learns of a panic from its channel.
            let _ = catch_unwind(AssertUnwindSafe(job));
            self.queue().ended += 1;
        }
    }

    fn queue(&self) -> MutexGuard<'_, LookQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request for a look, which is withdrawn when this is dropped, unless the look has begun.
struct LookRequest<'a> {
    looks: &'a Looks,
    number: u64,
    /// How many had ended when it was requested.
    ended: u64,
}

impl LookRequest<'_> {
    fn why_not_begun(&self) -> NoAnswer {
        if self.looks.queue().ended == self.ended { NoAnswer::Silent } else { NoAnswer::Busy }
    }
}

impl Drop for LookRequest<'_> {
    fn drop(&mut self) {
        let mut queue = self.looks.queue();
        let withdrawn = queue.waiting.iter().position(|(number, _)| *number == self.number);
        let withdrawn = withdrawn.and_then(|at| queue.waiting.remove(at));
        drop(queue);
        // It may hold the lock of a volume, so that is not done under the lock of the queue.
        drop(withdrawn);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const SOON: Duration = Duration::from_millis(200);
    const LATE: Duration = Duration::from_secs(60);

    /// A look that hangs until the sender is dropped.
    fn hanging() -> (mpsc::Sender<()>, impl FnOnce() + Send + 'static) {
        let (release, released) = mpsc::channel();
        (release, move || _ = released.recv())
    }

    #[tokio::test]
    async fn looks_behind_one_that_hangs_are_not_done_and_take_up_nothing() {
        let (looks, (release, hang), done) = (Looks::default(), hanging(), Arc::new(AtomicUsize::new(0)));
        assert_eq!(looks.within(SOON, hang).await, Err(NoAnswer::Silent));
        for _ in 0..3 {
            let counted = done.clone();
            let behind = looks.within(SOON, move || counted.fetch_add(1, Ordering::Relaxed)).await;
            assert_eq!(behind, Err(NoAnswer::Silent));
        }
        assert!(looks.queue().waiting.is_empty());
        drop(release);
        assert_eq!(looks.within(LATE, || 1).await, Ok(1), "it answers again");
        assert_eq!(done.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_wait_for_others_is_not_reported_as_silence() {
        let looks = Looks::default();
        let ((first, hang), (second, hang_too)) = (hanging(), hanging());
        let changes = async {
            tokio::time::sleep(SOON).await;
            drop(first);
            tokio::time::sleep(4 * SOON).await;
            drop(second);
        };
        let third = looks.within(3 * SOON, || ());
        let (one, two, third, ()) = tokio::join!(looks.at_leisure(hang), looks.at_leisure(hang_too), third, changes);
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(third, Err(NoAnswer::Busy));
    }

    #[tokio::test]
    async fn a_look_within_a_look_is_done_at_once() {
        let looks = Looks::default();
        let inner = looks.clone();
        assert_eq!(looks.within_blocking(LATE, move || inner.within_blocking(LATE, || 1)), Ok(Ok(1)));
    }

    #[tokio::test]
    async fn a_look_that_panics_fails_and_the_next_one_is_done() {
        let looks = Looks::default();
        assert_eq!(looks.within_blocking(LATE, || panic!("as planned")), Err::<(), _>(NoAnswer::Failed));
        assert_eq!(looks.within_blocking(LATE, || 1), Ok(1));
    }
}
