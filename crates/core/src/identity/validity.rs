//! The validity of a certificate.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::unix_time;

/// The time in which a certificate is valid, both ends included (RFC 5280, section 4.1.2.5). Serialized as Unix
/// seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

impl Validity {
    /// From the first to the last moment; zero if the ends are in the wrong order.
    pub fn lifetime(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }

    /// The rest of it at `now`; zero afterwards.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", unix_time::rfc3339(self.not_before), unix_time::rfc3339(self.not_after))
    }
}

#[derive(Serialize, Deserialize)]
struct Seconds {
    not_before: i64,
    not_after: i64,
}

impl Serialize for Validity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let seconds =
            Seconds { not_before: unix_time::seconds(self.not_before), not_after: unix_time::seconds(self.not_after) };
        seconds.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Validity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = Seconds::deserialize(deserializer)?;
        let read = |field: &str, value| {
            unix_time::at(value).ok_or_else(|| de::Error::custom(format!("{field} is out of range")))
        };
        Ok(Self {
            not_before: read("not_before", seconds.not_before)?,
            not_after: read("not_after", seconds.not_after)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_recorded_in_seconds() {
        let validity = Validity {
            not_before: unix_time::at(1_700_000_000).expect("a time"),
            not_after: unix_time::at(1_700_003_600).expect("a time"),
        };
        let json = serde_json::to_string(&validity).expect("it serializes");
        assert_eq!(json, r#"{"not_before":1700000000,"not_after":1700003600}"#);
        assert_eq!(serde_json::from_str::<Validity>(&json).expect("it reads back"), validity);
        assert_eq!(validity.lifetime(), Duration::from_secs(3600));
        assert_eq!(validity.remaining(validity.not_after + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(validity.to_string(), "2023-11-14T22:13:20Z to 2023-11-14T23:13:20Z");
    }
}
