//! Removes the taint that keeps pods off a new node until the driver is running.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::call::{CallError, within};
use super::client::CALL_TIMEOUT;
use super::error;
use crate::backoff::Backoff;
use crate::telemetry::reported::Reported;

/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(60);

/// The taints with one key on this node.
pub struct StartupTaint {
    nodes: Api<Node>,
    node: String,
    key: String,
    reported: Reported,
}

/// Why a taint still exists.
#[derive(Debug, thiserror::Error)]
enum TaintError {
    #[error("there is no node {0}: --startup-taint needs the node's own name as --node-id")]
    NoNode(String),
    #[error("grant this service account the verbs get and patch on nodes ({0})")]
    Forbidden(String),
    #[error("the node was changed in the meantime")]
    Raced,
    #[error(transparent)]
    Call(CallError),
}

impl StartupTaint {
    /// The taints with that key on the node.
    pub fn new(client: Client, node: &str, key: &str) -> Self {
        Self { nodes: Api::all(client), node: node.to_owned(), key: key.to_owned(), reported: Reported::default() }
    }

    /// Removes them, whatever their value and effect, and retries until there are none.
    pub async fn remove(&mut self) {
        let mut backoff = Backoff::up_to(LONGEST);
        loop {
            match self.try_to_remove().await {
                Ok(removed) => {
                    self.reported.ends();
                    return self.log_removed(removed);
                }
                Err(error) => self.log_failure(&error),
            }
            backoff.pause().await;
        }
    }

    async fn try_to_remove(&self) -> Result<usize, TaintError> {
        let failed = |error| self.failed(error);
        let node = within(CALL_TIMEOUT, self.nodes.get(&self.node)).await.map_err(failed)?;
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let removed = taints.iter().filter(|taint| taint.key == self.key).count();
        if removed > 0 {
            let patch = serde_json::from_value(removal(&taints, &self.key)).map(Patch::Json::<()>);
            let patch = patch.map_err(|error| failed(CallError::Failed(kube::Error::SerdeError(error))))?;
            let as_ever = PatchParams::default();
            within(CALL_TIMEOUT, self.nodes.patch(&self.node, &as_ever, &patch)).await.map_err(failed)?;
        }
        Ok(removed)
    }

    fn failed(&self, error: CallError) -> TaintError {
        match error {
            CallError::Failed(error) if error::is_forbidden(&error) => TaintError::Forbidden(error::describe(&error)),
            CallError::Failed(error) if error::is_not_found(&error) => TaintError::NoNode(self.node.clone()),
            CallError::Failed(error) if error::has_changed(&error) => TaintError::Raced,
            error => TaintError::Call(error),
        }
    }

    fn log_removed(&self, removed: usize) {
        if removed > 0 {
            info!(node = self.node, taint = self.key, "startup taint removed: pods can be scheduled on this node");
        }
    }

    fn log_failure(&mut self, error: &TaintError) {
        let problem = error.to_string();
        if !matches!(error, TaintError::Raced) && self.reported.is_new(problem.clone()) {
            warn!(node = self.node, taint = self.key, error = problem, "the startup taint cannot be removed yet");
        }
    }
}

impl std::fmt::Debug for StartupTaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartupTaint").field("node", &self.node).field("key", &self.key).finish_non_exhaustive()
    }
}

/// A JSON patch that removes the taints with that key, the last one first, and does nothing if one of them has moved.
fn removal(taints: &[Taint], key: &str) -> Value {
    let ours = taints.iter().enumerate().rev().filter(|(_, taint)| taint.key == key);
    let operations = ours.flat_map(|(index, taint)| {
        let path = format!("/spec/taints/{index}");
        [json!({"op": "test", "path": path, "value": taint}), json!({"op": "remove", "path": path})]
    });
    operations.collect()
}

#[cfg(test)]
mod tests;
