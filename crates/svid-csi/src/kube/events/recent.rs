//! The events of the last minutes.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

/// The maximum number of remembered events. Beyond that, the oldest are forgotten early.
const MOST: usize = 4096;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Remembers events for a while by their hashes: 16 bytes each, for any length.
#[derive(Debug)]
pub(super) struct Recent {
    span: Duration,
    order: VecDeque<(Instant, u64)>,
    known: HashSet<u64>,
}

impl Recent {
    pub(super) fn new(span: Duration) -> Self {
        Self { span, order: VecDeque::new(), known: HashSet::new() }
    }

    /// The hash of an event.
    pub(super) fn key(said: &impl Hash) -> u64 {
        HASHER.hash_one(said)
    }

    /// Whether it was added within the span.
    pub(super) fn has(&mut self, key: u64) -> bool {
        let now = Instant::now();
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= self.span) {
            self.forget_oldest();
        }
        self.known.contains(&key)
    }

    /// Adds it; it must not be known.
    pub(super) fn add(&mut self, key: u64) {
        if self.order.len() >= MOST {
            self.forget_oldest();
        }
        self.order.push_back((Instant::now(), key));
        self.known.insert(key);
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn remembers_for_the_span_and_up_to_the_limit() {
        let mut recent = Recent::new(Duration::from_secs(600));
        recent.add(1);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(recent.has(1) && !recent.has(2));
        recent.add(2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!recent.has(1) && recent.has(2));
        (3..10_000).for_each(|key| recent.add(key));
        assert!(!recent.has(2) && recent.has(9_999));
        assert_eq!((recent.order.len(), recent.known.len()), (MOST, MOST));
    }
}
