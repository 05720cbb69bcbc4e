//! Text without secrets, for reports that leave the node.
//!
//! The rules look at the text alone: they do not know which secrets exist, so that they also find those that came from
//! elsewhere, such as an issuer's message. They also remove text that is harmless, because a missing word in a report costs
//! less than a key.

mod encoded;
mod marked;
mod named;
mod pseudonyms;

use std::fmt;
use std::ops::Range;

pub use self::pseudonyms::Pseudonyms;

/// The replacement of a secret.
pub const MARK: &str = "[redacted]";

/// How many encodings inside each other are looked through.
const DEPTH: usize = 3;

/// A text in which everything that looks like a secret is replaced by [`MARK`]. There is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    text: String,
    places: usize,
}

/// Which part of a long text is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Its first lines.
    Start,
    /// Its last lines.
    End,
}

impl Redacted {
    /// Replaces private keys, key stores, tokens, credentials in URLs, values of keys such as `password`, and long random
    /// text, also inside base64 and hexadecimal.
    pub fn of(text: &str) -> Self {
        let mut redacted = String::with_capacity(text.len());
        let (mut done, mut places) = (0, 0);
        for span in merged(spans(text, DEPTH)) {
            redacted.push_str(&text[done..span.start]);
            redacted.push_str(MARK);
            (done, places) = (span.end, places + 1);
        }
        redacted.push_str(&text[done..]);
        Self { text: redacted, places }
    }

    /// The same, with pseudonyms. Secrets are replaced before names, because a pod may have the name of a word that announces
    /// one.
    pub fn anonymous(text: &str, names: &Pseudonyms) -> Self {
        let first = Self::of(text);
        let second = Self::of(&names.apply(&first.text));
        Self { text: second.text, places: first.places + second.places }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many secrets were replaced.
    pub fn places(&self) -> usize {
        self.places
    }

    /// At most `most` bytes in whole lines, with a line that says how much is missing.
    #[must_use]
    pub fn cut(self, most: usize, keep: Keep) -> Self {
        if self.text.len() <= most {
            return self;
        }
        let all = self.text.len();
        let room = most.saturating_sub(note(all, all).len() + 1);
        let kept = match keep {
            Keep::Start => {
                let start = &self.text[..self.text.floor_char_boundary(room)];
                &start[..start.rfind('\n').map_or(start.len(), |end| end + 1)]
            }
            Keep::End => {
                let end = &self.text[self.text.ceil_char_boundary(all - room)..];
                &end[end.find('\n').map_or(0, |start| start + 1)..]
            }
        };
        let note = note(all - kept.len(), all);
        let text = match keep {
            Keep::Start if kept.ends_with('\n') || kept.is_empty() => format!("{kept}{note}"),
            Keep::Start => format!("{kept}\n{note}"),
            Keep::End => format!("{note}{kept}"),
        };
        Self { text, places: self.places }
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn note(missing: usize, all: usize) -> String {
    format!("[truncated: {missing} of {all} bytes are left out]\n")
}

/// Everything in the text that looks like a secret, in any order.
fn spans(text: &str, depth: usize) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    marked::find(text, &mut spans);
    named::find(text, &mut spans);
    encoded::find(text, depth, &mut spans);
    spans
}

fn has_secrets(text: &str, depth: usize) -> bool {
    !spans(text, depth).is_empty()
}

/// Spans that overlap or touch are one.
fn merged(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    spans.retain(|span| !span.is_empty());
    spans.sort_by_key(|span| span.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
