//! How long to wait before something is tried again.

use std::time::Duration;

use aws_lc_rs::rand;
use svid_csi_core::identity::Validity;
use svid_csi_core::renew;

use crate::host::clock;

/// How much is left of an identity.
pub(crate) fn remaining(last: Option<&Validity>) -> Duration {
    last.and_then(|validity| validity.not_after.duration_since(clock::now()).ok()).unwrap_or_default()
}

/// How long to wait after `failures` failures in a row.
pub(crate) fn retry_delay(failures: u32, last: Option<&Validity>) -> Duration {
    retry_delay_within(failures, remaining(last))
}

/// How long to wait after `failures` failures in a row, with so much left of the identity; see [`renew::retry_delay`].
pub(crate) fn retry_delay_within(failures: u32, remaining: Duration) -> Duration {
    renew::retry_delay(failures, remaining, jitter())
}

/// How long to wait after so many failures of something that is tried again for ever: 0.25 s, doubled each time up to
/// `longest`, moved by up to a fifth.
pub(crate) fn pause(failures: u32, longest: Duration) -> Duration {
    let pause = Duration::from_millis(250).saturating_mul(1 << failures.min(16)).min(longest);
    pause.mul_f64(0.8 + 0.4 * jitter())
}

/// A random number from 0 up to 1, so that what started together does not stay together.
pub(crate) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter; keys cannot be made then either, and that fails loudly.
    let _ = rand::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_started_together_does_not_stay_together() {
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
