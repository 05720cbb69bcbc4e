//! The undecided requests and their order.
//!
//! Namespaces take turns, so that ten thousand requests in one do not delay a request in another. Every undecided
//! request is stored by its name, but objects only as long as they fit into a budget; a worker that takes a request
//! without its object reads it again. So the memory is limited for any number of requests.

mod lanes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::lanes::{Lanes, Ticket};
use super::object::{Listed, RequestKey};

/// The maximum total size of stored objects, in bytes.
const BUDGET: usize = 2 << 20;

/// All undecided requests.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<RequestKey, Entry>,
    lanes: Lanes,
    delayed: BTreeMap<(Instant, Ticket), RequestKey>,
    last_ticket: Ticket,
    held: usize,
    listing: u64,
    recalls: u64,
}

#[derive(Debug)]
struct Entry {
    state: EntryState,
    /// The version that was added last, or was left pending.
    latest: Box<str>,
    /// The object of that version, if it fits.
    object: Option<Box<Listed>>,
    weight: usize,
    seen: Instant,
    tries: u32,
    listing: u64,
}

#[derive(Debug)]
enum EntryState {
    Waiting(Ticket),
    Delayed(Instant, Ticket),
    /// A request of the same name may follow while the turn of a deleted one lasts: that turn's end is not the new one's.
    Taken(Ticket),
    /// Left pending until its version changes.
    Left,
}

/// A request whose turn it is. If it is dropped before a result is set, it waits again.
#[derive(Debug)]
pub(super) struct TakenRequest {
    queue: Arc<Queue>,
    is_finished: bool,
    /// The version at which it was taken.
    known: Box<str>,
    /// How often all pending requests had been requeued when it was taken.
    recalls: u64,
    turn: Ticket,
    /// Which request.
    pub(super) key: RequestKey,
    /// The object, if it is stored. A worker that reads it again puts it here.
    pub(super) object: Option<Box<Listed>>,
    /// When it was first seen.
    pub(super) seen: Instant,
    /// The number of earlier attempts.
    pub(super) tries: u32,
}

/// The state of a request after its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It is finished: decided, or deleted.
    Forget,
    /// It is left pending until it changes.
    Leave,
    /// It is retried after that time.
    Retry(Duration),
}

impl Queue {
    /// An undecided request was listed or has changed.
    pub(super) fn offer(&self, object: Box<Listed>) {
        let (key, weight) = (object.key(), object.weight());
        let mut inner = self.lock();
        inner.release(&key);
        let is_held = inner.held + weight <= BUDGET;
        let listing = inner.listing;
        let entry = inner.entries.entry(key.clone()).or_insert_with(|| Entry::new(Instant::now()));
        entry.listing = listing;
        let is_left = matches!(entry.state, EntryState::Left);
        if is_left && *entry.latest == *object.version() {
            return;
        }
        entry.latest = object.version().into();
        if is_held {
            (entry.object, entry.weight) = (Some(object), weight);
            inner.held += weight;
        }
        if is_left {
            inner.enqueue(key);
            self.changed.notify_one();
        }
    }

    /// Removes a request that was decided or deleted. Returns whether it was undecided until now.
    pub(super) fn forget(&self, key: &RequestKey) -> bool {
        let mut inner = self.lock();
        let was_known = inner.entries.contains_key(key);
        inner.remove(key);
        was_known
    }

    /// Marks the beginning of a new list of all requests.
    pub(super) fn listing_begins(&self) {
        self.lock().listing += 1;
    }

    /// Marks the end of the list: requests that were not in it no longer exist.
    pub(super) fn listing_ends(&self) {
        let mut inner = self.lock();
        let listing = inner.listing;
        let gone: Vec<_> = inner.entries.iter().filter(|(_, entry)| entry.listing != listing).collect();
        let gone: Vec<_> = gone.into_iter().map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| inner.remove(key));
    }

    /// Requeues the requests that were left pending, because the policy has changed.
    pub(super) fn recall(&self) {
        let mut inner = self.lock();
        inner.recalls += 1;
        let left = inner.entries.iter().filter(|(_, entry)| matches!(entry.state, EntryState::Left));
        let left: Vec<_> = left.map(|(key, _)| key.clone()).collect();
        left.into_iter().for_each(|key| inner.enqueue(key));
        self.changed.notify_one();
    }

    /// The number of undecided requests.
    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Waits for the next request.
    pub(super) async fn take(self: &Arc<Self>) -> TakenRequest {
        loop {
            let next_due = {
                let mut inner = self.lock();
                inner.wake_due(Instant::now());
                if let Some(key) = inner.lanes.pop()
                    && let Some(taken) = inner.taken(self, key)
                {
                    return taken;
                }
                inner.delayed.keys().next().map(|(due, _)| *due)
            };
            let due = async {
                match next_due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = due => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// A request that is not queued yet.
    fn new(seen: Instant) -> Self {
        Self { state: EntryState::Left, latest: "".into(), object: None, weight: 0, seen, tries: 0, listing: 0 }
    }

    fn is_taken(&self, turn: Ticket) -> bool {
        matches!(self.state, EntryState::Taken(its) if its == turn)
    }
}

impl Inner {
    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Drops the object of a request.
    fn release(&mut self, key: &RequestKey) -> Option<Box<Listed>> {
        let entry = self.entries.get_mut(key)?;
        self.held -= std::mem::take(&mut entry.weight);
        entry.object.take()
    }

    fn remove(&mut self, key: &RequestKey) {
        self.release(key);
        let Some(entry) = self.entries.remove(key) else { return };
        match entry.state {
            EntryState::Waiting(ticket) => self.lanes.remove(ticket, key),
            EntryState::Delayed(due, ticket) => drop(self.delayed.remove(&(due, ticket))),
            EntryState::Taken(_) | EntryState::Left => {}
        }
    }

    fn enqueue(&mut self, key: RequestKey) {
        let ticket = self.ticket();
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = EntryState::Waiting(ticket);
            self.lanes.push(ticket, key);
        }
    }

    fn wake_due(&mut self, now: Instant) {
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            self.enqueue(key);
        }
    }

    fn taken(&mut self, queue: &Arc<Queue>, key: RequestKey) -> Option<TakenRequest> {
        let object = self.release(&key);
        let turn = self.ticket();
        let entry = self.entries.get_mut(&key)?;
        entry.state = EntryState::Taken(turn);
        let (known, seen, tries) = (entry.latest.clone(), entry.seen, entry.tries);
        let recalls = self.recalls;
        Some(TakenRequest { queue: queue.clone(), is_finished: false, known, recalls, turn, key, object, seen, tries })
    }

    fn finish(&mut self, taken: &TakenRequest, next: Next) {
        let (key, was_recalled) = (&taken.key, self.recalls != taken.recalls);
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_taken(taken.turn)) else { return };
        match next {
            Next::Forget => self.remove(key),
            Next::Leave if was_recalled => self.enqueue(key.clone()),
            Next::Leave if entry.latest != taken.known && *entry.latest != *taken.version() => {
                self.enqueue(key.clone())
            }
            Next::Leave => {
                (entry.state, entry.latest) = (EntryState::Left, taken.version().into());
                self.release(key);
            }
            Next::Retry(delay) => {
                entry.tries += 1;
                self.last_ticket += 1;
                let due = Instant::now() + delay;
                entry.state = EntryState::Delayed(due, self.last_ticket);
                self.delayed.insert((due, self.last_ticket), key.clone());
            }
        }
    }
}

impl TakenRequest {
    /// Sets its next state.
    pub(super) fn finish(mut self, next: Next) {
        self.is_finished = true;
        self.queue.lock().finish(&self, next);
        self.queue.changed.notify_one();
    }

    /// The version it is judged by.
    fn version(&self) -> &str {
        self.object.as_ref().map_or(&self.known, |object| object.version())
    }
}

impl Drop for TakenRequest {
    fn drop(&mut self) {
        if !self.is_finished {
            let mut inner = self.queue.lock();
            if inner.entries.get(&self.key).is_some_and(|entry| entry.is_taken(self.turn)) {
                inner.enqueue(self.key.clone());
            }
            self.queue.changed.notify_one();
        }
    }
}
