//! Decides requests while this process leads, many at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use super::judge::Judge;
use super::queue::{Queue, TakenRequest};
use crate::backoff;
use crate::kube::lease::{Leadership, Term};

/// The number of requests decided at once. Nothing else limits the rate, because the API server reports when it is
/// overloaded.
const AT_ONCE: usize = 32;

/// How long decisions in progress may take during the shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// The longest pause between two attempts while everything fails.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Decides requests in their order whenever this process leads, until `stop`. The Lease may be released only after its
/// end, which `until_done` reports.
pub(super) async fn run(
    judge: Arc<Judge>,
    queue: Arc<Queue>,
    mut leadership: Leadership,
    stop: CancellationToken,
    until_done: DropGuard,
) -> Result<(), Infallible> {
    stop.run_until_cancelled(judge.issuer.answered()).await;
    while let Some(term) = stop.run_until_cancelled(leadership.begun()).await {
        info!(pending = queue.len(), "this approver leads and decides certificate requests");
        lead(&judge, &queue, &term, &stop).await;
    }
    drop(until_done);
    Ok(())
}

async fn lead(judge: &Judge, queue: &Arc<Queue>, term: &Term, stop: &CancellationToken) {
    let mut under_way = FuturesUnordered::new();
    let mut pace = Pace::default();
    loop {
        let may_take = under_way.len() < AT_ONCE;
        tokio::select! {
            biased;
            // When this function ends, decisions in progress are dropped, and their requests are queued again.
            () = term.ended() => return,
            () = stop.cancelled() => break,
            Some(is_well) = under_way.next() => pace.note(is_well),
            taken = take(queue, pace.next_at), if may_take => under_way.push(judge.decide(taken, term)),
        }
    }
    let drained = timeout(DRAIN, async { while under_way.next().await.is_some() {} });
    tokio::select! {
        _ = drained => {}
        () = term.ended() => {}
    }
}

async fn take(queue: &Arc<Queue>, not_before: Option<Instant>) -> TakenRequest {
    if let Some(moment) = not_before {
        sleep_until(moment).await;
    }
    queue.take().await
}

/// Slows down while everything fails, so that a recovered API server does not receive the whole backlog at once.
#[derive(Debug, Default)]
struct Pace {
    failures: u32,
    next_at: Option<Instant>,
}

impl Pace {
    fn note(&mut self, is_well: bool) {
        let now = Instant::now();
        if is_well {
            *self = Self::default();
        } else if self.next_at.is_none_or(|moment| moment <= now) {
            // Concurrent decisions fail together, which counts as one failure.
            let pause = backoff::doubled(FIRST_PAUSE, self.failures, LONGEST_PAUSE);
            (self.failures, self.next_at) = (self.failures + 1, Some(now + pause));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn concurrent_failures_count_as_one_and_success_ends_the_pause() {
        let mut pace = Pace::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            (0..AT_ONCE).for_each(|_| pace.note(false));
            let next = pace.next_at.unwrap();
            pauses.push((next - Instant::now()).as_millis());
            sleep_until(next).await;
        }
        assert_eq!(pauses[..3], [50, 100, 200]);
        assert_eq!(pauses[9], LONGEST_PAUSE.as_millis());
        pace.note(true);
        assert!(pace.next_at.is_none() && pace.failures == 0);
    }
}
