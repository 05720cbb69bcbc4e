//! Whole seconds since 1970, the unit of certificates and records.
//!
//! Times come from certificates, tokens, records and other programs, so any number is possible, and none may cause a
//! panic.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Whole seconds since 1970, rounded down; negative before.
pub fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let partial = u64::from(before.subsec_nanos() > 0);
            i64::try_from(before.as_secs() + partial).map_or(i64::MIN, |seconds| -seconds)
        }
    }
}

/// The time at that many seconds since 1970, if the system can express it.
pub fn at(seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

/// The time in whole seconds as a certificate encodes it; `None` beyond the years that certificates can express (to
/// 9999).
pub(crate) fn calendar(time: SystemTime) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds(time)).ok().filter(|time| time.year() >= 0)
}

/// `2026-01-31T12:00:00Z`, in UTC and to the second; the number of seconds since 1970 if the year does not have four digits.
pub fn rfc3339(time: SystemTime) -> String {
    let text = calendar(time).and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{} s since 1970", seconds(time)))
}

/// Reads `2026-01-31T12:00:00Z`.
pub(crate) fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    at(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn no_number_of_seconds_panics() {
        let year_10000 = 253_402_300_800;
        assert_eq!(at(year_10000).map(rfc3339).as_deref(), Some("253402300800 s since 1970"));
        for value in [i64::MIN, i64::MIN + 1, -62_167_219_201, year_10000, i64::MAX - 1, i64::MAX] {
            at(value).map(rfc3339);
        }
    }

    proptest! {
        #[test]
        fn any_time_can_be_printed(value in any::<i64>(), distance in any::<Duration>()) {
            if let Some(time) = at(value) {
                rfc3339(time);
                prop_assert_eq!(seconds(time), value);
            }
            for time in [UNIX_EPOCH.checked_add(distance), UNIX_EPOCH.checked_sub(distance)].into_iter().flatten() {
                rfc3339(time);
                seconds(time);
            }
        }
    }
}
