//! The turns of renewals: so many at a time in one namespace, and twice as many in all. The next one goes to another
//! namespace if one of it waits.
//!
//! Who may change requests in a namespace can keep a turn for as long as a turn lasts. Only pods of that namespace wait
//! longer for it, however many volumes they have: it leaves as many turns to others as it can hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Gate, OwnedSemaphorePermit, Semaphore};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Turns {
    of_each: usize,
    all: Arc<Semaphore>,
    namespaces: Mutex<HashMap<String, Weak<Namespace>>>,
}

#[derive(Debug)]
struct Namespace {
    turns: Arc<Semaphore>,
    /// Only the first of a namespace waits for one of all turns.
    gate: Gate<()>,
}

/// The turn of one renewal, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct RenewalTurn {
    _of_all: OwnedSemaphorePermit,
    _of_namespace: OwnedSemaphorePermit,
    /// Its turns are known as long as one is held.
    _namespace: Arc<Namespace>,
}

impl Turns {
    /// So many at a time in each namespace.
    pub(super) fn new(of_each: usize) -> Self {
        let all = of_each.saturating_mul(2).min(Semaphore::MAX_PERMITS);
        Self { of_each, all: Arc::new(Semaphore::new(all)), namespaces: Mutex::default() }
    }

    /// Waits for the turn of a renewal in that namespace. Cancel-safe.
    pub(super) async fn next(&self, namespace: &str) -> RenewalTurn {
        const OPEN: &str = "it is never closed";
        let namespace = self.namespace(namespace);
        let of_namespace = namespace.turns.clone().acquire_owned().await.expect(OPEN);
        let of_all = {
            let _first = namespace.gate.lock().await;
            self.all.clone().acquire_owned().await.expect(OPEN)
        };
        RenewalTurn { _of_all: of_all, _of_namespace: of_namespace, _namespace: namespace }
    }

    fn namespace(&self, name: &str) -> Arc<Namespace> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = namespaces.get(name).and_then(Weak::upgrade) {
            return namespace;
        }
        namespaces.retain(|_, namespace| namespace.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(self.of_each.min(Semaphore::MAX_PERMITS)));
        let namespace = Arc::new(Namespace { turns, gate: Gate::default() });
        namespaces.insert(name.to_owned(), Arc::downgrade(&namespace));
        namespace
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn taken(turns: &Turns, namespace: &str, number: usize) -> Vec<RenewalTurn> {
        (0..number).map(|_| turns.next(namespace).now_or_never().expect("a turn")).collect()
    }

    /// It keeps all of its turns.
    #[test]
    fn a_namespace_with_many_volumes_does_not_delay_others() {
        for number in [1, 2, 8] {
            let turns = Turns::new(number);
            let held = taken(&turns, "greedy", number);
            let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(turns.next("greedy"))).collect();
            assert!(waiting.iter_mut().all(|next| next.now_or_never().is_none()));
            let other = taken(&turns, "other", number);
            assert!(turns.next("other").now_or_never().is_none(), "a namespace has only {number}");
            drop((other, waiting, held));
            assert_eq!(turns.all.available_permits(), 2 * number, "no one keeps a turn that is not wanted any more");
            drop(turns.next("third").now_or_never().expect("a turn"));
            assert_eq!(turns.namespaces.lock().unwrap().len(), 1, "namespaces without renewals are forgotten");
        }
    }

    #[test]
    fn namespaces_take_turns_if_all_are_taken() {
        let turns = Turns::new(2);
        let (held, others) = (taken(&turns, "greedy", 2), taken(&turns, "another", 2));
        let mut waiting: Vec<_> = ["third", "third", "fourth"].map(|name| Box::pin(turns.next(name))).into();
        assert!(waiting.iter_mut().all(|next| next.now_or_never().is_none()));
        drop(held);
        let came: Vec<_> = waiting.iter_mut().map(|next| next.now_or_never()).collect();
        assert_eq!(came.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        drop(others);
    }
}
