//! The record of all calls, for tests that count them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use crate::pulse::Pulse;

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The user, if the token was known.
    pub user: Option<String>,
    /// `create`, `get`, `list`, `watch`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// The resource, with its subresource after a slash, such as `certificaterequests/status`.
    pub resource: String,
    /// The namespace; empty for all namespaces.
    pub namespace: String,
    /// The object, if one was named.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// The body.
    pub body: Value,
    /// When it arrived.
    pub at: Instant,
    /// The status code of the response, once there is one.
    pub code: Option<u16>,
}

/// All calls in the order of their arrival.
#[derive(Debug, Default)]
pub struct Calls {
    state: Mutex<Journal>,
    pulse: Pulse,
}

#[derive(Debug, Default)]
struct Journal {
    calls: Vec<Call>,
    in_flight: HashMap<String, InFlight>,
}

#[derive(Debug, Default, Clone, Copy)]
struct InFlight {
    now: usize,
    peak: usize,
}

/// A call in progress.
#[derive(Debug)]
pub(super) struct Answering<'a> {
    calls: &'a Calls,
    index: usize,
    action: String,
}

impl Calls {
    pub(super) fn new(pulse: Pulse) -> Self {
        Self { pulse, ..Self::default() }
    }

    /// All calls.
    pub fn all(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The calls of one kind, such as `of("create", "certificaterequests")`.
    pub fn of(&self, verb: &str, resource: &str) -> Vec<Call> {
        let state = self.state();
        state.calls.iter().filter(|call| call.verb == verb && call.resource == resource).cloned().collect()
    }

    /// The number of calls of one kind.
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        self.of(verb, resource).len()
    }

    /// The highest number of concurrent calls of one kind.
    pub fn peak(&self, verb: &str, resource: &str) -> usize {
        self.state().in_flight.get(&format!("{verb} {resource}")).map_or(0, |in_flight| in_flight.peak)
    }

    /// One line per call, for messages of failed tests.
    pub fn log(&self) -> String {
        let state = self.state();
        let begin = state.calls.first().map(|call| call.at);
        let lines = state.calls.iter().map(|call| {
            let after = begin.map_or(0.0, |begin| call.at.duration_since(begin).as_secs_f64());
            let code = call.code.map_or_else(|| "...".to_owned(), |code| code.to_string());
            let user = call.user.as_deref().unwrap_or("?");
            format!("{after:8.3} {code} {user} {} {} {}\n", call.verb, call.resource, call.uri)
        });
        lines.collect()
    }

    pub(super) fn begin(&self, call: Call) -> Answering<'_> {
        let action = format!("{} {}", call.verb, call.resource);
        let mut state = self.state();
        state.calls.push(call);
        let index = state.calls.len() - 1;
        let in_flight = state.in_flight.entry(action.clone()).or_default();
        in_flight.now += 1;
        in_flight.peak = in_flight.peak.max(in_flight.now);
        drop(state);
        self.pulse.beat();
        Answering { calls: self, index, action }
    }

    fn state(&self) -> MutexGuard<'_, Journal> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answering<'_> {
    pub(super) fn answered(self, code: u16) {
        self.calls.state().calls[self.index].code = Some(code);
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        if let Some(in_flight) = self.calls.state().in_flight.get_mut(&self.action) {
            in_flight.now -= 1;
        }
        self.calls.pulse.beat();
    }
}
