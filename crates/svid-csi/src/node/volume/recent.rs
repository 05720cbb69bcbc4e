//! The last identities and the last failures, in memory, for the status page.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use svid_csi_core::findings::facts::EventFacts;
use svid_csi_core::unix_time::seconds;
use svid_csi_core::volume::VolumeSpec;

use super::error::VolumeError;
use crate::host::clock;
use crate::telemetry::report;

/// How many of each are kept: a busy node issues many identities, which must not push failures out.
const MOST: usize = 32;
/// The longest text that is kept, in bytes.
const LONGEST: usize = 320;

/// What happened to the identities of pods.
#[derive(Debug, Default)]
pub(in crate::node) struct RecentEvents(Mutex<Rings>);

/// The oldest come first.
#[derive(Debug, Default)]
struct Rings {
    issued: VecDeque<EventFacts>,
    failures: VecDeque<EventFacts>,
}

impl RecentEvents {
    pub(super) fn issued(&self, spec: &VolumeSpec) {
        self.lock().issued(event(spec, "issued", None));
    }

    pub(super) fn failed(&self, spec: &VolumeSpec, what: &str, error: &VolumeError) {
        self.lock().failed(event(spec, what, Some(&report::chain(error))));
    }

    /// All of them, the newest first.
    pub(in crate::node) fn all(&self) -> Vec<EventFacts> {
        let rings = self.lock();
        let mut all: Vec<_> = rings.failures.iter().rev().chain(rings.issued.iter().rev()).cloned().collect();
        drop(rings);
        all.sort_by_key(|event| std::cmp::Reverse(event.at));
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    fn issued(&mut self, event: EventFacts) {
        push(&mut self.issued, event);
    }

    /// A failure that repeats stays one event, with its last reason: reasons may contain a time.
    fn failed(&mut self, mut event: EventFacts) {
        let same = |other: &EventFacts| other.about == event.about && other.what == event.what;
        if let Some(earlier) = self.failures.iter().position(same).and_then(|at| self.failures.remove(at)) {
            event.times = earlier.times.saturating_add(1);
        }
        push(&mut self.failures, event);
    }
}

fn push(events: &mut VecDeque<EventFacts>, event: EventFacts) {
    if events.len() == MOST {
        events.pop_front();
    }
    events.push_back(event);
}

fn event(spec: &VolumeSpec, what: &str, why: Option<&str>) -> EventFacts {
    let about = spec.pod.as_ref().map_or_else(|| spec.id.to_string(), ToString::to_string);
    EventFacts { at: seconds(clock::now()), about: cut(&about), what: what.to_owned(), why: why.map(cut), times: 1 }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST);
    let mut kept = text[..end].to_owned();
    if end < text.len() {
        kept.push_str("...");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(about: &str, what: &str, at: i64) -> EventFacts {
        let why = (what != "issued").then(|| format!("no CA at {at}"));
        EventFacts { at, about: about.to_owned(), what: what.to_owned(), why, times: 1 }
    }

    #[test]
    fn identities_do_not_push_failures_out_and_repeated_failures_stay_one() {
        let recent = RecentEvents::default();
        for at in 0..3 {
            recent.lock().failed(event("shop/web", "renewal failed", at));
        }
        recent.lock().failed(event("shop/api", "renewal failed", 1));
        for at in 0..1_000 {
            recent.lock().issued(event(&format!("shop/{at}"), "issued", at));
        }
        let all = recent.all();
        assert_eq!(all.len(), MOST + 2);
        assert_eq!((all[0].at, all[MOST - 1].at), (999, 968), "the newest come first");
        assert_eq!((all[MOST].about.as_str(), all[MOST].at, all[MOST].times), ("shop/web", 2, 3));
        assert_eq!(all[MOST].why.as_deref(), Some("no CA at 2"), "the last reason");
        assert_eq!((all[MOST + 1].about.as_str(), all[MOST + 1].times), ("shop/api", 1));
        for at in 0..1_000 {
            recent.lock().failed(event(&format!("shop/{at}"), "renewal failed", at));
        }
        assert_eq!(recent.all().len(), 2 * MOST);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let kept = cut(&"\u{fc}".repeat(LONGEST));
        assert_eq!((kept.len(), kept.ends_with("\u{fc}...")), (LONGEST + 3, true));
        assert!(cut(&format!("x{}", "\u{fc}".repeat(LONGEST))).len() < LONGEST + 3);
    }
}
