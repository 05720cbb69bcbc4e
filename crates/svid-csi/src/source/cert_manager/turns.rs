//! The turns of renewals: so many at a time, and the next one goes to another namespace if one of it waits.
//!
//! Who may change requests in a namespace can keep a turn for as long as a turn lasts. Only pods of that namespace wait
//! longer for it, however many volumes they have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Gate, OwnedSemaphorePermit, Semaphore};

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// At each gate, only the first of its namespace waits for one of all turns.
    gates: Mutex<HashMap<String, Weak<Gate<()>>>>,
}

impl Turns {
    /// So many at a time.
    pub(super) fn new(number: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(number)), gates: Mutex::default() }
    }

    /// Waits for the turn of a renewal in that namespace, which ends when the permit is dropped. Cancel-safe.
    pub(super) async fn next(&self, namespace: &str) -> OwnedSemaphorePermit {
        let gate = self.gate(namespace);
        let _first = gate.lock().await;
        self.all.clone().acquire_owned().await.expect("it is never closed")
    }

    fn gate(&self, namespace: &str) -> Arc<Gate<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(namespace).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::default();
        gates.insert(namespace.to_owned(), Arc::downgrade(&gate));
        gate
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_namespace_with_many_volumes_does_not_delay_others() {
        let turns = Turns::new(2);
        let held: Vec<_> = (0..2).map(|_| turns.next("greedy").now_or_never().expect("a turn")).collect();
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(turns.next("greedy"))).collect();
        assert!(waiting.iter_mut().all(|next| next.now_or_never().is_none()));
        let mut other = Box::pin(turns.next("other"));
        assert!((&mut other).now_or_never().is_none());
        drop(held);
        // One of the greedy namespace came first.
        let first = waiting.iter_mut().filter_map(|next| next.now_or_never()).collect::<Vec<_>>();
        let other = other.now_or_never().expect("the second turn");
        assert_eq!(first.len(), 1);
        drop((first, other, waiting));
        assert_eq!(turns.all.available_permits(), 2, "no one keeps a turn that is not wanted any more");
        drop(turns.next("third").now_or_never().expect("a turn"));
        assert_eq!(turns.gates.lock().unwrap().len(), 1, "gates without pods are forgotten");
    }
}
