//! Notes of a leader for later leaders, in an annotation of the Lease, because nothing else outlives them all.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::coordination::v1::Lease;
use tracing::error;

use crate::telemetry::reported::Reported;

/// The annotations of an object may have 256 KiB in all (Kubernetes, TotalAnnotationSizeLimitB).
const MOST_BYTES: usize = 128 << 10;

/// A growing set of words: those of every earlier leader, and this one's.
#[derive(Debug, Clone)]
pub struct Notes {
    annotation: &'static str,
    words: Arc<Mutex<BTreeSet<String>>>,
    full: Arc<Mutex<Reported>>,
}

impl Notes {
    /// Stored in that annotation. The notes of earlier leaders are known as soon as this process leads.
    pub fn new(annotation: &'static str) -> Self {
        Self { annotation, words: Arc::default(), full: Arc::default() }
    }

    /// Adds a note, which is stored with the next renewal of the Lease.
    pub fn add(&self, word: String) {
        let mut words = self.words();
        let bytes: usize = words.iter().map(|known| known.len() + 1).sum();
        if bytes + word.len() < MOST_BYTES {
            words.insert(word);
        } else if !words.contains(&word)
            && self.full.lock().unwrap_or_else(PoisonError::into_inner).is_new(word.clone())
        {
            error!(
                word,
                annotation = self.annotation,
                "the Lease has no room for another note: later leaders will not know it"
            );
        }
    }

    /// All known notes.
    pub fn all(&self) -> Vec<String> {
        self.words().iter().cloned().collect()
    }

    pub(super) fn read(&self, lease: &Lease) {
        let text = lease.metadata.annotations.as_ref().and_then(|all| all.get(self.annotation));
        self.words().extend(text.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned));
    }

    pub(super) fn write(&self, lease: &mut Lease) {
        let words = self.words();
        if !words.is_empty() {
            let text = words.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            lease.metadata.annotations.get_or_insert_default().insert(self.annotation.to_owned(), text);
        }
    }

    fn words(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
