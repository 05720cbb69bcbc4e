//! First come, first served within a namespace; namespaces take turns.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use crate::approver::object::RequestKey;

/// Numbers the entries in the order of their arrival.
pub(super) type Ticket = u64;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    waiting: BTreeMap<Arc<str>, BTreeMap<Ticket, RequestKey>>,
    last_served: Option<Arc<str>>,
}

impl Lanes {
    pub(super) fn push(&mut self, ticket: Ticket, key: RequestKey) {
        self.waiting.entry(key.namespace.clone()).or_default().insert(ticket, key);
    }

    pub(super) fn remove(&mut self, ticket: Ticket, key: &RequestKey) {
        if let Some(lane) = self.waiting.get_mut(&key.namespace) {
            lane.remove(&ticket);
            if lane.is_empty() {
                self.waiting.remove(&key.namespace);
            }
        }
    }

    /// The first entry of the next namespace after the one served last, cyclically.
    pub(super) fn pop(&mut self) -> Option<RequestKey> {
        let after = self.last_served.as_ref().map_or(Unbounded, Excluded);
        let next = self.waiting.range::<Arc<str>, _>((after, Unbounded)).next();
        let namespace = next.or_else(|| self.waiting.iter().next()).map(|(namespace, _)| namespace.clone())?;
        let lane = self.waiting.get_mut(&namespace)?;
        let first = lane.pop_first().map(|(_, key)| key);
        if lane.is_empty() {
            self.waiting.remove(&namespace);
        }
        self.last_served = Some(namespace);
        first
    }
}
