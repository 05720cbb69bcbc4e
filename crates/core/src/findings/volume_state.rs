//! How a volume is, in one word and one reason.

use std::time::SystemTime;

use super::facts::VolumeFacts;
use crate::unix_time::seconds;

/// How a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VolumeState {
    /// Its certificate has expired.
    Expired,
    /// It is published without an identity.
    Missing,
    /// Its certificate does not lead to its trust bundle.
    Untrusted,
    /// Its pod waits to start.
    Starting,
    /// Its renewal is due.
    Renewing,
    /// It is being removed.
    Removing,
    /// It is as it should be.
    Ok,
}

impl VolumeState {
    /// All of them, the worst first.
    pub const ALL: [Self; 7] =
        [Self::Expired, Self::Missing, Self::Untrusted, Self::Starting, Self::Renewing, Self::Removing, Self::Ok];

    /// Its name, as `status --state` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Missing => "missing",
            Self::Untrusted => "untrusted",
            Self::Starting => "starting",
            Self::Renewing => "renewing",
            Self::Removing => "removing",
            Self::Ok => "ok",
        }
    }

    /// How a volume is, and why if that is known.
    pub fn of(volume: &VolumeFacts, now: SystemTime) -> (Self, Option<&str>) {
        let (now, waiting) = (seconds(now), volume.waiting.as_deref().or(volume.failed.as_deref()));
        match (volume.phase.as_str(), &volume.identity) {
            ("intended", _) => (Self::Starting, waiting),
            ("removing", _) => (Self::Removing, None),
            (_, Some(identity)) if identity.not_after <= now => (Self::Expired, waiting),
            (_, Some(identity)) if identity.untrusted.is_some() => (Self::Untrusted, identity.untrusted.as_deref()),
            (_, Some(identity)) if identity.renewal <= now || waiting.is_some() => (Self::Renewing, waiting),
            (_, None) if volume.is_issued() && !volume.adopted => {
                (Self::Missing, waiting.or(volume.withdrawn.then_some("its source withdrew the identity")))
            }
            _ => (Self::Ok, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::findings::facts::IdentityFacts;

    #[test]
    fn each_state_has_its_volumes() {
        let identity = IdentityFacts { not_after: 3_600, renewal: 2_400, ..IdentityFacts::default() };
        let untrusted = IdentityFacts { untrusted: Some("another CA".to_owned()), ..identity.clone() };
        let volume = |phase: &str, identity: Option<&IdentityFacts>, waiting: Option<&str>| VolumeFacts {
            plan: "broker:files".to_owned(),
            phase: phase.to_owned(),
            identity: identity.cloned(),
            waiting: waiting.map(str::to_owned),
            ..VolumeFacts::default()
        };
        let of = |volume: &VolumeFacts, at: u64| {
            let (state, why) = VolumeState::of(volume, UNIX_EPOCH + Duration::from_secs(at));
            (state, why.map(str::to_owned))
        };
        let why = |text: &str| Some(text.to_owned());
        assert_eq!(of(&volume("intended", None, Some("an entry")), 0), (VolumeState::Starting, why("an entry")));
        assert_eq!(of(&volume("removing", Some(&identity), None), 9_000), (VolumeState::Removing, None));
        assert_eq!(of(&volume("ready", Some(&identity), None), 2_399), (VolumeState::Ok, None));
        assert_eq!(
            of(&volume("ready", Some(&identity), Some("its turn")), 9),
            (VolumeState::Renewing, why("its turn"))
        );
        assert_eq!(of(&volume("ready", Some(&identity), None), 2_400), (VolumeState::Renewing, None));
        assert_eq!(of(&volume("ready", Some(&untrusted), None), 3_599), (VolumeState::Untrusted, why("another CA")));
        assert_eq!(of(&volume("ready", Some(&untrusted), None), 3_600), (VolumeState::Expired, None));
        let withdrawn = VolumeFacts { withdrawn: true, ..volume("ready", None, None) };
        assert_eq!(of(&withdrawn, 0), (VolumeState::Missing, why("its source withdrew the identity")));
        let passthrough = VolumeFacts { plan: "socket:socket-dir".to_owned(), ..volume("ready", None, None) };
        assert_eq!(of(&passthrough, 0), (VolumeState::Ok, None));
        for state in VolumeState::ALL {
            assert!(state.name().chars().all(|c| c.is_ascii_lowercase()), "{state:?}");
        }
    }
}
