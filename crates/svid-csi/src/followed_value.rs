//! The last good value of a followed object, which is kept if the source breaks or disappears.

use tokio::sync::watch;

use crate::telemetry::reported::{Reported, gist};

/// The following side.
#[derive(Debug)]
pub(crate) struct FollowedValue<T> {
    value: watch::Sender<T>,
    trouble: watch::Sender<Option<String>>,
    reported: Reported,
}

impl<T: PartialEq> FollowedValue<T> {
    /// Creates it with an initial value.
    pub(crate) fn new(first: T) -> Self {
        Self { value: watch::Sender::new(first), trouble: watch::Sender::new(None), reported: Reported::default() }
    }

    /// The value and its changes.
    pub(crate) fn value(&self) -> watch::Receiver<T> {
        self.value.subscribe()
    }

    /// Why the value may be outdated, if it may.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// Sets a good value. Returns whether it differs; only then watchers are notified.
    pub(crate) fn good(&mut self, now: T) -> bool {
        self.reported.ends();
        self.set_trouble(None);
        self.value.send_if_modified(|value| {
            let differs = *value != now;
            *value = now;
            differs
        })
    }

    /// Records that the current value cannot be used. Returns whether this is worth logging, because the problem has
    /// changed, not only its numbers.
    pub(crate) fn broken(&mut self, trouble: String) -> bool {
        let is_new = self.reported.is_new(gist(&trouble));
        self.set_trouble(Some(trouble));
        is_new
    }

    /// Records that it cannot be read for now.
    pub(crate) fn out_of_sight(&mut self, trouble: String) {
        self.set_trouble(Some(trouble));
    }

    fn set_trouble(&self, trouble: Option<String>) {
        self.trouble.send_if_modified(|known| {
            let differs = *known != trouble;
            *known = trouble;
            differs
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_keep_the_last_value_and_are_reported_once() {
        let mut last = FollowedValue::new(None);
        let (mut value, trouble) = (last.value(), last.trouble());
        assert!(last.good(Some(1)) && !last.good(Some(1)));
        value.mark_unchanged();
        let is_new = ["a", "a", "b", "a"].map(|text| last.broken(text.to_owned()));
        assert_eq!(is_new, [true, false, true, true]);
        assert_eq!(trouble.borrow().as_deref(), Some("a"));
        last.out_of_sight("unreachable".to_owned());
        assert_eq!(trouble.borrow().as_deref(), Some("unreachable"));
        assert!(!last.broken("a".to_owned()), "it was not good in between");
        assert!(!last.good(Some(1)) && trouble.borrow().is_none());
        assert!(!value.has_changed().unwrap() && *value.borrow() == Some(1));
        assert!(last.broken("a".to_owned()), "it was good in between");
        assert!(last.good(None) && value.has_changed().unwrap());
    }
}
