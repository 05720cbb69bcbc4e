//! The outcome of each attack.

use std::fmt::Display;

use serde::Serialize;
use svid_csi_testkit::JsonLines;

/// Prints the attacks of one class.
pub(crate) struct Report {
    class: &'static str,
    out: JsonLines,
}

#[derive(Serialize)]
struct Outcome<'a> {
    class: &'a str,
    attack: &'a str,
    /// Why it was refused, unless it had an effect.
    refused: Option<String>,
}

impl Report {
    pub(crate) fn of(class: &'static str) -> Self {
        Self { class, out: JsonLines::default() }
    }

    /// Another class of attacks.
    pub(crate) fn about(&self, class: &'static str) -> Self {
        Self { class, out: self.out.clone() }
    }

    /// Attempts an attack, and returns its result if it had an effect.
    pub(crate) fn attempt<T, E: Display>(
        &self,
        attack: impl AsRef<str>,
        act: impl FnOnce() -> Result<T, E>,
    ) -> Option<T> {
        let outcome = act();
        let refused = outcome.as_ref().err().map(ToString::to_string);
        self.out.write(&Outcome { class: self.class, attack: attack.as_ref(), refused });
        outcome.ok()
    }
}
