//! Everything that is wrong with the flags, told in one go.

use std::collections::BTreeMap;
use std::fmt::Display;

use clap::error::ErrorKind;

/// The mistakes found so far, and how each flag was written by whoever set it.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    written: BTreeMap<String, String>,
    found: Vec<(String, String)>,
}

impl Mistakes {
    /// Remembers that `flag` was set, and by which spelling or environment variable.
    pub(super) fn note(&mut self, flag: &str, written: &str) {
        self.written.insert(flag.to_owned(), written.to_owned());
    }

    /// Whether `flag` was set to something.
    pub(super) fn given(&self, flag: &str) -> bool {
        self.written.contains_key(flag)
    }

    /// The flag as its author wrote it.
    pub(super) fn spelling(&self, flag: &str) -> String {
        self.written.get(flag).cloned().unwrap_or_else(|| format!("--{flag}"))
    }

    /// Adds what is wrong with `flag` and how to mend it.
    pub(super) fn add(&mut self, flag: &str, problem: impl Display) {
        self.found.push((self.spelling(flag), problem.to_string()));
    }

    /// Adds what is wrong with a word that is no flag.
    pub(super) fn stray(&mut self, word: &str, problem: impl Display) {
        self.found.push((word.to_owned(), problem.to_string()));
    }

    /// Adds that `flag` is required, unless that would only echo a mistake told already.
    pub(super) fn missing(&mut self, flag: &str, fix: impl Display) {
        if !self.given(flag) && !self.wrong("profile") {
            self.add(flag, format_args!("missing; {fix}"));
        }
    }

    /// What `result` holds, if it is no mistake about `flag`.
    pub(super) fn check<T, E: Display>(&mut self, flag: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(flag, error)).ok()
    }

    /// Whether something is known to be wrong with `flag`.
    pub(super) fn wrong(&self, flag: &str) -> bool {
        let spelling = self.spelling(flag);
        self.found.iter().any(|(about, _)| *about == spelling)
    }

    /// `value`, or what is wrong with it as the answer to the user.
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
