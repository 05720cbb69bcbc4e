//! The current problems.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A part that can have a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    /// Reading the ConfigMap.
    Map,
    /// This node's entry.
    Own,
    /// The entries of other nodes.
    Entries,
    /// Storing them for the next startup.
    Kept,
    /// The resulting trust bundle.
    Union,
}

/// The problem of each part, if it has one.
#[derive(Debug, Clone, Default)]
pub(super) struct Troubles(Arc<Mutex<BTreeMap<Of, String>>>);

impl Troubles {
    /// Sets or clears the problem of a part. Returns whether it has changed.
    pub(super) fn set(&self, part: Of, trouble: Option<String>) -> bool {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match trouble.clone() {
            Some(trouble) => troubles.insert(part, trouble),
            None => troubles.remove(&part),
        };
        before != trouble
    }

    /// All of them in one line.
    pub(super) fn summary(&self) -> Option<String> {
        let troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = troubles.values().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}
