//! How long to wait before a retry.

use std::time::Duration;

use aws_lc_rs::rand;
use svid_csi_core::identity::Validity;
use svid_csi_core::renew;

use crate::host::clock;

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
    let pause = Duration::from_millis(250).saturating_mul(1 << failures.min(16)).min(longest);
    pause.mul_f64(0.8 + 0.4 * jitter())
}

/// A random number from 0 up to 1, so that tasks that started together drift apart.
pub(crate) fn jitter() -> f64 {
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
}
