//! Whole seconds since 1970, as certificates and records count them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Whole seconds since 1970, rounded down; negative before.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let partial = u64::from(before.subsec_nanos() > 0);
            i64::try_from(before.as_secs() + partial).map_or(i64::MIN, |seconds| -seconds)
        }
    }
}

/// The time at that many seconds since 1970, where the system can express it.
pub(crate) fn at(seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

/// The time in whole seconds as a certificate writes it; none outside the years certificates can express (to 9999).
pub(crate) fn calendar(time: SystemTime) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds(time)).ok().filter(|time| time.year() >= 0)
}

/// `2026-01-31T12:00:00Z`, for messages.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let text = calendar(time).and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{} s since 1970", seconds(time)))
}

/// Reads `2026-01-31T12:00:00Z`.
pub(crate) fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    at(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_down_and_back() {
        for (time, expected) in [
            (UNIX_EPOCH + Duration::from_millis(1999), 1),
            (UNIX_EPOCH, 0),
            (UNIX_EPOCH - Duration::from_millis(1), -1),
            (UNIX_EPOCH - Duration::from_secs(2), -2),
        ] {
            assert_eq!(seconds(time), expected);
        }
        for value in [0, 1, -1, 1_700_000_000, 253_402_300_799] {
            assert_eq!(at(value).map(seconds), Some(value));
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let time = at(1_700_000_000).expect("a time");
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20Z");
        assert_eq!(parse_rfc3339("2023-11-14T22:13:20Z"), Some(time));
        assert_eq!(parse_rfc3339("2023-11-14T23:13:20+01:00"), Some(time));
        assert_eq!(parse_rfc3339("tomorrow"), None);
    }

    #[test]
    fn never_panics_at_the_ends() {
        for value in [i64::MIN, i64::MAX] {
            if let Some(time) = at(value) {
                rfc3339(time);
                seconds(time);
            }
        }
    }
}
