//! When to renew, and when to retry.
//!
//! Jitter is an argument from 0 to 1, drawn for every call, so that volumes published together do not renew together.

use std::time::{Duration, SystemTime};

use crate::identity::{CLOCK_SKEW, Validity};

/// How far jitter moves a renewal, as a fraction of the time until it.
const RENEWAL_JITTER: f64 = 0.1;

/// How far jitter moves a retry, as a fraction of the delay.
const RETRY_JITTER: f64 = 0.2;

/// The delay after the first failure.
const FIRST_RETRY: Duration = Duration::from_secs(30);

/// The longest delay between two attempts.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// The shortest delay between two attempts.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

/// A retry uses up at most this fraction of the remaining time: a quarter.
const SHARE_OF_REMAINING: u32 = 4;

/// When to renew: at 2/3 of the time from `not_before` to `not_after`, moved by up to a tenth of that either way.
///
/// So between 60 % and 73.4 % of the way, and never outside the validity. Pass
/// [`Identity::held`](crate::identity::Identity::held), which begins when the identity arrived, not the validity of the
/// certificate, which an issuer may have dated back.
pub fn due(validity: &Validity, jitter: f64) -> SystemTime {
    let span = validity.lifetime() / 3 * 2;
    let moved = vary(span, RENEWAL_JITTER, jitter).min(validity.lifetime());
    validity.not_before.checked_add(moved).unwrap_or(validity.not_after)
}

/// When to alert the administrator that an identity was not renewed: when a sixth of its time is left.
pub fn alarming(validity: &Validity) -> SystemTime {
    validity.not_after.checked_sub(validity.lifetime() / 6).unwrap_or(validity.not_after)
}

/// How long to sleep from `now` until [`due`]; zero when overdue.
///
/// Zero also if `now` is before the validity by more than [`CLOCK_SKEW`]: then the clock was ahead when the identity
/// arrived, and the identity cannot be used yet.
pub fn delay(validity: &Validity, now: SystemTime, jitter: f64) -> Duration {
    match validity.not_before.duration_since(now) {
        Ok(ahead) if ahead > CLOCK_SKEW => Duration::ZERO,
        _ => due(validity, jitter).duration_since(now).unwrap_or_default(),
    }
}

/// How long to wait after that many consecutive failures (1 is the first).
///
/// 30 s, doubled with every failure up to 5 min, moved by up to a fifth either way. While an identity is still valid
/// for the `remaining` time, at most a quarter of that, so that a short-lived identity gets its attempts before it
/// expires; but never less than a second. If nothing is `remaining` (expired, or no identity yet), there is no such
/// limit.
pub fn retry_delay(failures: u32, remaining: Duration, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let delay = FIRST_RETRY.saturating_mul(1 << doublings).min(LAST_RETRY);
    let delay = vary(delay, RETRY_JITTER, jitter);
    if remaining.is_zero() { delay } else { delay.min(remaining / SHARE_OF_REMAINING).max(SHORTEST_RETRY) }
}

/// Moves a duration by up to `part` of it: shorter for a jitter under 0.5, longer above.
fn vary(duration: Duration, part: f64, jitter: f64) -> Duration {
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
    let factor = 1.0 + part * (2.0 * jitter - 1.0);
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(duration)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn valid_for(seconds: u64) -> Validity {
        let not_before = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Validity { not_before, not_after: not_before + Duration::from_secs(seconds) }
    }

    #[test]
    fn renews_at_two_thirds_within_a_tenth() {
        for (lifetime, jitter, expected) in
            [(3600, 0.5, 2400.0), (3600, 0.0, 2160.0), (3600, 1.0, 2640.0), (30, 0.5, 20.0), (30, 1.0, 22.0)]
        {
            let validity = valid_for(lifetime);
            let after = due(&validity, jitter).duration_since(validity.not_before).expect("it is later");
            assert!((after.as_secs_f64() - expected).abs() < 0.001, "{lifetime} s, jitter {jitter}: {after:?}");
        }
    }

    #[test]
    fn alarms_after_every_renewal_and_before_the_end() {
        let validity = valid_for(60);
        assert_eq!(alarming(&validity), validity.not_after - Duration::from_secs(10));
        assert!(alarming(&validity) > due(&validity, 1.0));
    }

    #[test]
    fn is_due_at_once_when_overdue() {
        let validity = valid_for(60);
        assert_eq!(delay(&validity, validity.not_before, 0.5), Duration::from_secs(40));
        assert_eq!(delay(&validity, validity.not_before + Duration::from_secs(41), 0.5), Duration::ZERO);
        assert_eq!(delay(&validity, validity.not_after + Duration::from_secs(999), 0.5), Duration::ZERO);
    }

    #[test]
    fn is_due_at_once_when_the_clock_was_ahead_by_more_than_accepted() {
        let validity = valid_for(60);
        let earlier = validity.not_before - CLOCK_SKEW;
        assert_eq!(delay(&validity, earlier, 0.5), Duration::from_secs(100));
        assert_eq!(delay(&validity, earlier - Duration::from_nanos(1), 0.5), Duration::ZERO);
    }

    #[test]
    fn backs_off_from_30_seconds_to_5_minutes() {
        let delays: Vec<u64> = (0..8).map(|failures| retry_delay(failures, Duration::ZERO, 0.5).as_secs()).collect();
        assert_eq!(delays, [30, 30, 60, 120, 240, 300, 300, 300]);
        assert_eq!(retry_delay(1, Duration::ZERO, 0.0), Duration::from_secs(24));
        assert_eq!(retry_delay(u32::MAX, Duration::ZERO, 1.0), Duration::from_secs(360));
    }

    #[test]
    fn hurries_while_a_short_identity_runs_out() {
        assert_eq!(retry_delay(1, Duration::from_secs(10), 0.5), Duration::from_millis(2500));
        assert_eq!(retry_delay(9, Duration::from_secs(1200), 0.5), Duration::from_secs(300));
        assert_eq!(retry_delay(9, Duration::from_millis(1), 0.5), SHORTEST_RETRY);
    }

    proptest! {
        #[test]
        fn is_always_due_within_the_validity(lifetime in 1u64..=10_000_000_000, jitter in 0.0f64..=1.0) {
            let validity = valid_for(lifetime);
            let due = due(&validity, jitter);
            prop_assert!(due > validity.not_before && due < validity.not_after);
        }

        #[test]
        fn never_panics(start in any::<i64>(), end in any::<i64>(), jitter in any::<f64>(), failures in any::<u32>()) {
            let at = |seconds: i64| crate::unix_time::at(seconds).unwrap_or(UNIX_EPOCH);
            let validity = Validity { not_before: at(start), not_after: at(end) };
            let due = due(&validity, jitter);
            prop_assert!(due >= validity.not_before);
            prop_assert!(due <= validity.not_after || validity.lifetime().is_zero());
            delay(&validity, at(end), jitter);
            retry_delay(failures, Duration::from_secs(start.unsigned_abs()), jitter);
        }

        #[test]
        fn retries_are_neither_too_fast_nor_too_slow(failures in any::<u32>(), left in 0u64..100_000, jitter in 0.0f64..=1.0) {
            let delay = retry_delay(failures, Duration::from_secs(left), jitter);
            prop_assert!(delay >= SHORTEST_RETRY && delay <= LAST_RETRY.mul_f64(1.0 + RETRY_JITTER));
            prop_assert!(left == 0 || delay <= (Duration::from_secs(left) / SHARE_OF_REMAINING).max(SHORTEST_RETRY));
        }
    }
}
