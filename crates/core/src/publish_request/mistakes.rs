//! All mistakes of a request, reported together.

const MOST_MISTAKES: usize = 8;
const LONGEST_MISTAKE: usize = 400;

/// All mistakes of a request, each naming the field and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct RequestMistakes(pub Vec<String>);

impl RequestMistakes {
    pub(crate) fn new() -> Self {
        RequestMistakes(Vec::new())
    }

    /// Records a mistake, shortened: texts of a pod author may have any length.
    pub(crate) fn add(&mut self, mistake: impl ToString) {
        match self.0.len() {
            0..MOST_MISTAKES => self.0.push(mistake.to_string().chars().take(LONGEST_MISTAKE).collect()),
            MOST_MISTAKES => self.0.push("and more".to_owned()),
            _ => {}
        }
    }

    /// The same mistakes, for calls that name the path `field`.
    #[must_use]
    pub fn of_path(self, field: &str) -> Self {
        RequestMistakes(self.0.into_iter().map(|mistake| mistake.replace("target_path", field)).collect())
    }

    /// Returns the value, or records the mistake.
    pub(crate) fn take<T, E: ToString>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(error.to_string())).ok()
    }
}
