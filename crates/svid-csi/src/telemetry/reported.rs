//! Problems that are reported once, until they change or end.

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

    /// Marks the end of the problem, so that it is reported if it returns. Returns whether there was one.
    pub(crate) fn ends(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// The problem, if it has not ended.
    pub(crate) fn current(&self) -> Option<&T> {
        self.0.as_ref()
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
    }
}
