//! How long to wait before a retry.

use std::time::Duration;

use aws_lc_rs::rand;
use svid_csi_core::identity::Validity;
use svid_csi_core::renew;
use tokio::time::{Instant, sleep};

use crate::host::clock;
#[cfg(test)]
use crate::host::simulated;

/// The first pause.
const FIRST: Duration = Duration::from_millis(250);

/// The remaining lifetime of an identity.
pub(crate) fn remaining(last: Option<&Validity>) -> Duration {
    last.and_then(|validity| validity.not_after.duration_since(clock::now()).ok()).unwrap_or_default()
}

/// How long to wait after `failures` consecutive failures.
pub(crate) fn retry_delay(failures: u32, last: Option<&Validity>) -> Duration {
    retry_delay_within(failures, remaining(last))
}

/// How long to wait after `failures` consecutive failures while that much of the identity is left; see
/// [`renew::retry_delay`].
pub(crate) fn retry_delay_within(failures: u32, remaining: Duration) -> Duration {
    renew::retry_delay(failures, remaining, jitter())
}

/// How long to wait after that many failures of an operation that is retried forever: 0.25 s, doubled each time up to
/// `longest`, moved by up to a fifth.
pub(crate) fn pause(failures: u32, longest: Duration) -> Duration {
    grown(FIRST, failures, longest)
}

fn grown(first: Duration, failures: u32, longest: Duration) -> Duration {
    doubled(first, failures, longest).mul_f64(0.8 + 0.4 * jitter())
}

/// How long to wait after that many failures of an operation that only this process does: `first`, doubled each time up to
/// `longest`.
pub(crate) fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(longest)
}

/// The pauses between attempts at something that is retried forever.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    /// After that long without a failure, the next one is the first of a new series.
    calm: Duration,
    last: Option<Instant>,
}

impl Backoff {
    /// Pauses that grow from 0.25 s up to `longest`; see [`pause`].
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { first: FIRST, longest, failures: 0, calm: Duration::MAX, last: None }
    }

    /// Pauses that grow from 0.8 s up to 30 s, as in kube's watcher; 2 minutes without a failure end a series.
    pub(crate) fn for_watches() -> Self {
        let (first, longest, calm) = (Duration::from_millis(800), Duration::from_secs(30), Duration::from_secs(120));
        Self { first, longest, failures: 0, calm, last: None }
    }

    /// Counts a failure. Returns whether it is the first of a series.
    pub(crate) fn failed(&mut self) -> bool {
        let now = Instant::now();
        if self.last.replace(now).is_some_and(|last| now - last > self.calm) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    /// Ends the series.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after the last failure.
    pub(crate) fn delay(&self) -> Duration {
        grown(self.first, self.failures.saturating_sub(1), self.longest)
    }

    /// Counts a failure and waits.
    pub(crate) async fn pause(&mut self) {
        self.failed();
        sleep(self.delay()).await;
    }
}

/// A random part of a time, over which things that started together are spread.
pub(crate) fn spread(over: Duration) -> Duration {
    over.mul_f64(jitter())
}

/// A random number from 0 up to 1, so that tasks that started together drift apart.
pub(crate) fn jitter() -> f64 {
    #[cfg(test)]
    if let Some(jitter) = simulated::change(|machine| machine.random.fraction()) {
        return jitter;
    }
    let mut bytes = [0; 4];
    // Without randomness there is no jitter. Keys cannot be generated then either, which is reported.
    let _ = rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_start_together_drift_apart() {
        let jitters: Vec<_> = (0..100).map(|_| jitter()).collect();
        assert!(jitters.iter().all(|jitter| (0.0..1.0).contains(jitter)), "{jitters:?}");
        let quarters = (0..4).filter(|quarter| jitters.iter().any(|jitter| (jitter * 4.0) as u32 == *quarter));
        assert_eq!(quarters.count(), 4, "over all of the range: {jitters:?}");
    }

    #[test]
    fn pauses_grow_up_to_the_longest_and_differ() {
        let longest = Duration::from_secs(30);
        for (failures, middle) in [(0, 0.25), (1, 0.5), (6, 16.0), (7, 30.0), (u32::MAX, 30.0)] {
            let pauses: Vec<_> = (0..20).map(|_| pause(failures, longest).as_secs_f64()).collect();
            assert!(pauses.iter().all(|pause| (0.8 * middle..=1.2 * middle).contains(pause)), "{failures}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{failures}: {pauses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_series_of_failures_ends_with_a_success_or_a_calm_time() {
        let mut backoff = Backoff::for_watches();
        for (calm, is_first) in [(0, true), (100, false), (119, false), (121, true), (1, false)] {
            tokio::time::advance(Duration::from_secs(calm)).await;
            assert_eq!(backoff.failed(), is_first, "after {calm} s");
        }
        let second = backoff.delay().as_secs_f64();
        assert!((0.8 * 1.6..=1.2 * 1.6).contains(&second), "{second}");
        backoff.succeeded();
        assert!(backoff.failed());
        let mut patient = Backoff::up_to(Duration::from_secs(30));
        patient.pause().await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(!patient.failed(), "only a success ends it");
    }
}
