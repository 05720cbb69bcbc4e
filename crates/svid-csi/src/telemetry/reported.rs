//! Problems that are reported once, until they change or end, or only now and then.

use std::time::{Duration, Instant};

/// A problem without its numbers, so that it is the same one at another time.
pub(crate) fn gist(problem: &str) -> String {
    problem.replace(|c: char| c.is_ascii_digit(), "")
}

/// The problem that was last reported, if it has not ended.
#[derive(Debug)]
pub(crate) struct Reported<T = String>(Option<T>);

impl<T> Default for Reported<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: PartialEq> Reported<T> {
    /// Whether to report the problem, because it is not the last one.
    pub(crate) fn is_new(&mut self, problem: T) -> bool {
        let is_new = self.0.as_ref() != Some(&problem);
        self.0 = Some(problem);
        is_new
    }

    /// The problem that there is now, if it is not the last one. Without one, the last one has ended.
    pub(crate) fn news(&mut self, problem: Option<T>) -> Option<&T> {
        let is_new = self.0 != problem;
        self.0 = problem;
        self.0.as_ref().filter(|_| is_new)
    }

    /// Marks the end of the problem, so that it is reported if it returns. Returns whether there was one.
    pub(crate) fn ends(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// The problem, if it has not ended.
    pub(crate) fn current(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

/// A problem that a pod can cause as often as it likes: reported at most once a minute.
#[derive(Debug, Default)]
pub(crate) struct Sparingly {
    last: Option<Instant>,
    unreported: u64,
}

impl Sparingly {
    const PAUSE: Duration = Duration::from_secs(60);

    /// Whether to report the problem now, with the number of times that it was not reported since the last report.
    pub(crate) fn report(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < Self::PAUSE) {
            self.unreported += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_reported_again_only_after_another_or_after_its_end() {
        let mut reported = Reported::default();
        assert!(!reported.ends());
        assert_eq!(["a", "a", "b", "a"].map(|problem| reported.is_new(problem)), [true, false, true, true]);
        assert!(reported.current() == Some(&"a") && reported.ends() && !reported.ends());
        assert!(reported.is_new("a"));
        let news = [Some("a"), Some("b"), Some("b"), None, None, Some("b")].map(|now| reported.news(now).copied());
        assert_eq!(news, [None, Some("b"), None, None, None, Some("b")]);
    }

    #[test]
    fn a_problem_that_a_pod_keeps_causing_is_reported_once_a_minute() {
        let (start, mut problem) = (Instant::now(), Sparingly::default());
        let reports = [0, 1, 59, 60, 61, 119, 120, 500].map(|after| problem.report(start + Duration::from_secs(after)));
        assert_eq!(reports, [Some(0), None, None, Some(2), None, None, Some(2), Some(0)]);
    }
}
