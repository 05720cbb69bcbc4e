//! The renewal of one volume as a value: events and the time go in, and out comes what to do next, and when.
//!
//! The driver (`node/volume/renewal`) waits, calls the source and installs what it returns, but decides nothing.

use std::time::{Duration, SystemTime};

use crate::identity::Validity;
use crate::plan::Issuer;
use crate::renew;
use crate::state::Issued;

/// An agent may return the same token again at the very end of its lifetime.
const SHORTEST_TOKEN_WAIT: Duration = Duration::from_secs(1);

/// The state of a volume's renewal.
#[derive(Debug)]
pub struct Renewal {
    issuer: Issuer,
    held: Option<Held>,
    /// Whether the identity is renewed before it is due.
    at_once: bool,
    identity: Retries,
    /// Whether the last identity could not be delivered.
    undelivered: bool,
    tokens: Retries,
    alarm_raised: bool,
}

/// What a volume's pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// When its identity is valid.
    pub identity: Validity,
    /// Its tokens and JWT bundles.
    pub tokens: Tokens,
}

/// The tokens and JWT bundles in a volume's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// They are not part of the volume.
    Unwanted,
    /// Not issued yet.
    Missing,
    /// Issued. The tokens are valid at that time; there may be JWT bundles alone.
    Issued(Option<Validity>),
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// Nothing, but the time may be another: the renewal begins, the clock was set, or the machine was asleep.
    Woken,
    /// A new identity is to be requested now.
    RenewNow,
    /// The work has ended, and this is what the pod has now; `None` if its identity was withdrawn.
    Succeeded(Work, Option<Held>),
    /// The work has failed.
    Failed {
        /// The work.
        work: Work,
        /// What the pod has, or may have.
        held: Option<Held>,
        /// Whether the source had issued an identity, which could not be delivered.
        undelivered: bool,
    },
}

/// The work for a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Its next identity is installed, or its last one withdrawn.
    Identity,
    /// Its tokens and JWT bundles are replaced.
    Tokens,
}

/// The time of an event.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The wall clock, which may jump.
    pub wall: SystemTime,
    /// A clock that only advances, from any beginning.
    pub monotonic: Duration,
}

/// What to do next, all at the same time, until the next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// When to ask the source for an identity.
    pub identity: Ask,
    /// When to ask the source for tokens and JWT bundles.
    pub tokens: Ask,
    /// After which time to raise the alarm, which is not an event: the rest continues.
    pub alarm: Option<Duration>,
}

/// When to ask a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// After that time.
    pub after: Option<Duration>,
    /// Before, if the source has something else than this, or has withdrawn it.
    pub differs_from: Option<Reference>,
}

/// What the source's identity is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// What the pod has.
    Held,
    /// The identity that could not be delivered.
    Undelivered,
}

/// The failures since the last success.
#[derive(Debug, Default)]
struct Retries {
    failures: u32,
    /// The source is not asked before its end.
    pause: Option<Pause>,
}

/// The end of a pause, by whichever clock reaches it first: while the machine is asleep, only the wall clock advances.
#[derive(Debug, Clone, Copy)]
struct Pause {
    wall: SystemTime,
    monotonic: Duration,
}

impl Pause {
    fn new(now: Now, length: Duration) -> Self {
        Pause { wall: now.wall + length, monotonic: now.monotonic + length }
    }

    fn left(&self, now: Now) -> Duration {
        let by_wall = self.wall.duration_since(now.wall).unwrap_or_default();
        self.monotonic.saturating_sub(now.monotonic).min(by_wall)
    }
}

impl Held {
    /// The recorded identity; with tokens, if the volume `wants_tokens`.
    pub fn of(issued: &Issued, wants_tokens: bool) -> Self {
        let tokens = match &issued.jwt {
            _ if !wants_tokens => Tokens::Unwanted,
            None => Tokens::Missing,
            Some(jwt) => Tokens::Issued(jwt.tokens),
        };
        Held { identity: issued.validity, tokens }
    }

    fn validity(&self, work: Work) -> Option<&Validity> {
        match (work, &self.tokens) {
            (Work::Identity, _) => Some(&self.identity),
            (Work::Tokens, Tokens::Issued(tokens)) => tokens.as_ref(),
            (Work::Tokens, Tokens::Unwanted | Tokens::Missing) => None,
        }
    }
}

impl Ask {
    const NEVER: Ask = Ask { after: None, differs_from: None };
    const NOW: Ask = Ask { after: Some(Duration::ZERO), differs_from: None };
}

impl Renewal {
    /// The renewal of a volume whose pod has this from that issuer.
    pub fn new(issuer: Issuer, held: Option<Held>) -> Self {
        Renewal {
            issuer,
            held,
            at_once: false,
            identity: Retries::default(),
            undelivered: false,
            tokens: Retries::default(),
            alarm_raised: false,
        }
    }

    /// What to do after an event. `random` returns numbers from 0 to 1.
    pub fn on(&mut self, event: Event, now: Now, mut random: impl FnMut() -> f64) -> Next {
        match event {
            Event::Woken => {}
            Event::RenewNow => (self.at_once, self.identity.pause, self.tokens.pause) = (true, None, None),
            Event::Succeeded(Work::Identity, held) => *self = Self::new(self.issuer, held),
            Event::Succeeded(Work::Tokens, held) => (self.held, self.tokens) = (held, Retries::default()),
            Event::Failed { work, held, undelivered } => {
                self.held = held;
                if work == Work::Identity {
                    self.undelivered = undelivered && held.is_some();
                }
                let validity = held.as_ref().and_then(|held| held.validity(work));
                let remaining = validity.map(|validity| validity.remaining(now.wall)).unwrap_or_default();
                let retries = self.retries(work);
                retries.failures += 1;
                retries.pause = Some(Pause::new(now, renew::retry_delay(retries.failures, remaining, random())));
            }
        }
        Next {
            identity: self.identity(now, &mut random),
            tokens: self.tokens(now, &mut random),
            alarm: self.alarm(now.wall),
        }
    }

    /// The alarm is raised once for each identity.
    pub fn alarm_raised(&mut self) {
        self.alarm_raised = true;
    }

    /// How often the work has failed since it last succeeded.
    pub fn failures(&self, work: Work) -> u32 {
        match work {
            Work::Identity => self.identity.failures,
            Work::Tokens => self.tokens.failures,
        }
    }

    fn retries(&mut self, work: Work) -> &mut Retries {
        match work {
            Work::Identity => &mut self.identity,
            Work::Tokens => &mut self.tokens,
        }
    }

    fn identity(&self, now: Now, random: &mut impl FnMut() -> f64) -> Ask {
        match (self.identity.pause, &self.held) {
            (Some(pause), _) => Ask {
                after: Some(pause.left(now)),
                differs_from: (self.undelivered && self.issuer.pushes()).then_some(Reference::Undelivered),
            },
            (None, _) if self.at_once => Ask::NOW,
            (None, _) if self.issuer.pushes() => Ask { after: None, differs_from: Some(Reference::Held) },
            (None, None) => Ask::NOW,
            (None, Some(held)) => {
                Ask { after: Some(renew::delay(&held.identity, now.wall, random())), differs_from: None }
            }
        }
    }

    fn tokens(&self, now: Now, random: &mut impl FnMut() -> f64) -> Ask {
        let Some(held) = &self.held else { return Ask::NEVER };
        match (held.tokens, self.tokens.pause) {
            (Tokens::Unwanted, _) => Ask::NEVER,
            (_, Some(pause)) => Ask { after: Some(pause.left(now)), differs_from: None },
            (Tokens::Missing, None) => Ask::NOW,
            (Tokens::Issued(tokens), None) => Ask {
                after: tokens.map(|tokens| renew::delay(&tokens, now.wall, random()).max(SHORTEST_TOKEN_WAIT)),
                differs_from: Some(Reference::Held),
            },
        }
    }

    fn alarm(&self, now: SystemTime) -> Option<Duration> {
        let held = self.held.filter(|_| !self.alarm_raised)?;
        Some(renew::alarming(&held.identity).duration_since(now).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::state::IssuedJwt;

    #[test]
    fn only_wanted_tokens_have_a_schedule() {
        let valid_for =
            |seconds| Validity { not_before: UNIX_EPOCH, not_after: UNIX_EPOCH + Duration::from_secs(seconds) };
        let (identity, tokens) = (valid_for(3600), valid_for(300));
        let mut issued = Issued {
            serial: "01".to_owned(),
            validity: identity,
            spiffe_id: None,
            bundle_digest: String::new(),
            bundle_text: None,
            digest: None,
            untrusted: None,
            jwt: None,
        };
        assert_eq!(Held::of(&issued, true), Held { identity, tokens: Tokens::Missing });
        assert_eq!(Held::of(&issued, false), Held { identity, tokens: Tokens::Unwanted });
        issued.jwt = Some(IssuedJwt { tokens: Some(tokens), bundles_digest: String::new() });
        assert_eq!(Held::of(&issued, true), Held { identity, tokens: Tokens::Issued(Some(tokens)) });
        assert_eq!(Held::of(&issued, false), Held { identity, tokens: Tokens::Unwanted });
    }
}
