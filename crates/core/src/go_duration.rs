//! Durations as Go writes them: `1h`, `90m`, `1h30m`, `1.5s`.

use std::time::Duration;

const HOW: &str = "write it like 30s, 90m or 1h30m";

/// Reads a Go duration. Signs are refused: every duration of ours is positive.
///
/// # Errors
/// Why the text is not a duration, and how to write one.
pub fn parse(text: &str) -> Result<Duration, String> {
    let refuse = |why: &str| format!("{text:?} is not a duration ({why}); {HOW}");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(refuse("it is empty"));
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !(c.is_ascii_digit() || c == '.'));
        let (unit, after) = split_where(after, |c| c.is_ascii_digit() || c == '.');
        let scale = nanoseconds(unit).ok_or_else(|| refuse(&unit_problem(unit)))?;
        let part = scaled(number, scale).ok_or_else(|| refuse("a number is missing, or too large"))?;
        total = total.checked_add(part).ok_or_else(|| refuse("it is too long"))?;
        rest = after;
    }
    // Go counts nanoseconds in 63 bits: about 292 years.
    let total = u64::try_from(total).ok().filter(|total| *total <= i64::MAX as u64);
    total.map(Duration::from_nanos).ok_or_else(|| refuse("it is too long"))
}

/// Writes a duration in whole seconds as Go does, `1h0m0s`; fractions of a second are left out.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

fn unit_problem(unit: &str) -> String {
    if unit.is_empty() { "a unit is missing".to_owned() } else { format!("{unit:?} is not a unit") }
}

fn nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return None,
    })
}

/// `number` with at most one decimal point, times `scale`.
fn scaled(number: &str, scale: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if fraction.contains('.') {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
    // No unit is longer than 10^13 ns, so further digits amount to less than a nanosecond.
    let fraction = &fraction[..fraction.len().min(18)];
    let power = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let scale = u128::from(scale);
    Some(u128::from(digits(whole)?) * scale + u128::from(digits(fraction)?) * scale / power)
}

/// A number of seconds in its two largest units, for people.
pub fn short(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, _) => format!("{minutes}m"),
        (0, hours, minutes, _) => format!("{hours}h{minutes}m"),
        (days, hours, ..) => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("1h", 3_600_000_000_000),
            ("30s", 30_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("90m", 5_400_000_000_000),
            ("1h0m0s", 3_600_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("100ms", 100_000_000),
            ("1us1\u{b5}s1\u{3bc}s", 3_000),
            ("1.0000000001s", 1_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "1",
            "h",
            "3d",
            "-1h",
            "+1h",
            "1h ",
            "1 h",
            ".s",
            "1..5s",
            "1.0000000000000000000.5s",
            "1h30",
            "1e3s",
            "1\u{e9}",
            "9999999h",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(HOW) && error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn writes_what_go_writes() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (90, "1m30s"), (3600, "1h0m0s"), (3661, "1h1m1s"), (360_000, "100h0m0s")]
        {
            assert_eq!(format(Duration::from_secs(seconds)), text);
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(seconds in 0_u64..10_000_000) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn whole_parts_add_up(hours in 0_u64..10_000, minutes in 0_u64..10_000, seconds in 0_u64..10_000, millis in 0_u64..10_000) {
            let text = format!("{hours}h{minutes}m{seconds}s{millis}ms");
            let expected = Duration::from_millis(((hours * 60 + minutes) * 60 + seconds) * 1_000 + millis);
            prop_assert_eq!(parse(&text), Ok(expected));
        }

        #[test]
        fn decimals_agree_with_the_finer_unit(millis in 0_u64..10_000_000) {
            let text = format!("{}.{:03}s", millis / 1_000, millis % 1_000);
            prop_assert_eq!(parse(&text), parse(&format!("{millis}ms")));
        }

        #[test]
        fn no_text_panics(text in "[0-9.hmsun\u{b5}-]{0,40}|\\PC{0,20}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn short_durations_have_their_two_largest_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (3_599, "59m"), (3_660, "1h1m"), (90_000, "1d1h")] {
            assert_eq!(short(seconds), text);
        }
    }
}
