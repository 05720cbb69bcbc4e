//! How long a call may take.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// The maximum time that a publish waits for its source. The kubelet's limit for the whole call is two minutes, after
/// which it retries.
pub(in crate::node) const MOST: Duration = Duration::from_secs(60);

/// How long to wait for a source: short enough that the caller still receives the reason if there is no identity.
pub(in crate::node) fn of(call: &MetadataMap) -> Duration {
    let given = call.get("grpc-timeout").and_then(|timeout| timeout.to_str().ok()).and_then(timeout);
    given.map_or(MOST, |given| MOST.min(given - given / 5))
}

/// Reads the header: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8 && !digits.starts_with('+'))?;
    Some(match unit {
        "H" => Duration::from_secs(3600 * number),
        "M" => Duration::from_secs(60 * number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_receives_the_response() {
        let patience = |timeout: &str| {
            let mut call = MetadataMap::new();
            call.insert("grpc-timeout", timeout.parse().unwrap());
            of(&call)
        };
        assert_eq!(of(&MetadataMap::new()), MOST);
        assert_eq!(patience("119999000u"), MOST, "nine digits are one too many");
        assert_eq!(patience("119999m"), MOST);
        assert_eq!(patience("2M"), MOST);
        assert_eq!(patience("10S"), Duration::from_secs(8));
        assert_eq!(patience("500m"), Duration::from_millis(400));
        for wrong in ["", "S", "+1S", "1 S", "10", "1x", "-5S"] {
            assert_eq!(patience(wrong), MOST, "{wrong:?}");
        }
    }
}
