//! Faults that a test injects.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::failure::Failure;

/// A fault of a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// 429, with that many seconds in `Retry-After`.
    TooManyRequests(u64),
    /// 500.
    InternalError,
    /// 500, as for an object that exceeds etcd's limit.
    TooLarge,
    /// 503, as during the shutdown of an API server.
    Unavailable,
    /// 410, as for a resource version that is too old.
    Gone,
    /// 403 by an admission webhook, with this message.
    Denied(String),
    /// The response is delayed.
    Delay(Duration),
    /// No response until [`Faults::clear`]; then the call continues.
    Hang,
    /// The connection is closed without a response, and the call has no effect.
    Drop,
    /// The call takes effect, and the connection is closed before the response is sent.
    LoseAnswer,
}

/// The calls that fail.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    cleared: watch::Sender<u64>,
}

#[derive(Debug)]
struct Rule {
    verb: String,
    resource: String,
    left: usize,
    fault: Fault,
}

impl Faults {
    /// The next `times` calls of one kind fail. `*` stands for every verb or resource.
    pub fn next(&self, times: usize, verb: &str, resource: &str, fault: Fault) {
        self.rules().push(Rule { verb: verb.to_owned(), resource: resource.to_owned(), left: times, fault });
    }

    /// All calls of one kind fail, until [`clear`](Self::clear).
    pub fn always(&self, verb: &str, resource: &str, fault: Fault) {
        self.next(usize::MAX, verb, resource, fault);
    }

    /// Removes all faults; hanging calls continue.
    pub fn clear(&self) {
        self.rules().clear();
        self.cleared.send_modify(|times| *times += 1);
    }

    pub(super) fn meet(&self, verb: &str, resource: &str) -> Option<Fault> {
        let mut rules = self.rules();
        let matches = |wanted: &str, found: &str| wanted == "*" || wanted == found;
        let rule = rules
            .iter_mut()
            .find(|rule| rule.left > 0 && matches(&rule.verb, verb) && matches(&rule.resource, resource))?;
        rule.left -= 1;
        Some(rule.fault.clone())
    }

    pub(super) async fn until_cleared(&self) {
        // The sender is in `self`.
        let _ = self.cleared.subscribe().changed().await;
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    /// The response, for faults that are one.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self {
            Fault::TooManyRequests(seconds) => Some(Failure::too_many(*seconds)),
            Fault::TooLarge => Some(Failure::new(500, "InternalError", "etcdserver: request is too large")),
            Fault::InternalError => {
                Some(Failure::new(500, "InternalError", "Internal error occurred: etcdserver: no leader"))
            }
            Fault::Unavailable => {
                Some(Failure::new(503, "ServiceUnavailable", "the server is currently unable to handle the request"))
            }
            Fault::Gone => Some(Failure::expired(1, 2)),
            Fault::Denied(words) => {
                let message = format!("admission webhook \"webhook.example.org\" denied the request: {words}");
                Some(Failure::new(403, "Forbidden", message))
            }
            Fault::Delay(_) | Fault::Hang | Fault::Drop | Fault::LoseAnswer => None,
        }
    }
}
