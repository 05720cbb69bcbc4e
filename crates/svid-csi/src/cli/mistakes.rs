//! All mistakes in the flags, reported together.

use std::collections::BTreeMap;
use std::fmt::Display;

use clap::error::ErrorKind;

/// The mistakes found so far, and the user's spelling of each flag.
#[derive(Debug, Default)]
pub(super) struct FlagMistakes {
    written: BTreeMap<String, String>,
    found: Vec<(String, String)>,
}

impl FlagMistakes {
    /// Records that `flag` was set, and by which spelling or environment variable.
    pub(super) fn note(&mut self, flag: &str, written: &str) {
        self.written.insert(flag.to_owned(), written.to_owned());
    }

    /// Whether `flag` was set to a value.
    pub(super) fn given(&self, flag: &str) -> bool {
        self.written.contains_key(flag)
    }

    /// The flag as the user wrote it.
    pub(super) fn spelling(&self, flag: &str) -> String {
        self.written.get(flag).cloned().unwrap_or_else(|| format!("--{flag}"))
    }

    /// Adds a mistake in `flag`, with the fix.
    pub(super) fn add(&mut self, flag: &str, problem: impl Display) {
        self.found.push((self.spelling(flag), problem.to_string()));
    }

    /// Adds a mistake in a word that is not a flag.
    pub(super) fn stray(&mut self, word: &str, problem: impl Display) {
        self.found.push((word.to_owned(), problem.to_string()));
    }

    /// Adds that `flag` is required, unless that only repeats another mistake.
    pub(super) fn missing(&mut self, flag: &str, fix: impl Display) {
        if !self.given(flag) && !self.wrong("profile") {
            self.add(flag, format_args!("missing; {fix}"));
        }
    }

    /// The value of `result`; an error is added as a mistake in `flag`.
    pub(super) fn check<T, E: Display>(&mut self, flag: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(flag, error)).ok()
    }

    /// Whether a mistake in `flag` has been found.
    pub(super) fn wrong(&self, flag: &str) -> bool {
        let spelling = self.spelling(flag);
        self.found.iter().any(|(about, _)| *about == spelling)
    }

    /// `value`, or the error for the user if there are mistakes.
    pub(super) fn none_or<T>(self, value: T) -> Result<T, clap::Error> {
        if self.found.is_empty() {
            return Ok(value);
        }
        let count = match self.found.len() {
            1 => "1 mistake".to_owned(),
            several => format!("{several} mistakes"),
        };
        let lines: String = self.found.iter().map(|(flag, problem)| format!("  {flag}: {problem}\n")).collect();
        let answer = format!("{count} in the flags:\n{lines}\nFor more information, try '--help'.\n");
        Err(clap::Error::raw(ErrorKind::ValueValidation, answer))
    }
}
