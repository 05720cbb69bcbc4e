//! Names and texts of others, safe for a line of the log.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use svid_csi_core::quoted::Quoted;

/// The maximum number of different messages that are logged once, because users choose some of them.
const MOST: usize = 32;

/// A name unchanged, if the API server would accept it; anything else in quotation marks, truncated and escaped.
pub(super) fn shown(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { Quoted::new(name).to_string() }
}

/// Whether it is a valid name of an object (Kubernetes, DNS subdomain names).
pub(super) fn is_plain(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=253).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Messages that are logged once.
#[derive(Debug, Default)]
pub(super) struct Once(Mutex<HashSet<String>>);

impl Once {
    /// Whether it has not been logged before.
    pub(super) fn is_new(&self, what: &str) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logged.len() < MOST && !logged.contains(what) && logged.insert(what.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_names_are_shown_unchanged() {
        assert_eq!(shown("cart-0.x"), "cart-0.x");
        for name in ["", "A", "a/b", "a\nb", &"a".repeat(254)] {
            assert!(shown(name).starts_with('"'), "{name}");
        }
    }

    #[test]
    fn a_message_is_new_once_and_memory_is_limited() {
        let once = Once::default();
        assert!(once.is_new("a") && !once.is_new("a") && once.is_new("b"));
        let new = (0..1_000).filter(|number| once.is_new(&number.to_string())).count();
        assert_eq!(new, MOST - 2);
    }
}
