//! This node's entry: written if it is missing or differs, without competing with another writer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use svid_csi_core::ca::Authorities;
use svid_csi_core::finding;
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

use super::shared_map::SharedMap;
use super::trouble::{Of, Troubles};
use crate::backoff::pause;
use crate::kube::call::{CallError, within};
use crate::kube::client::CALL_TIMEOUT;
use crate::kube::error;

/// The longest pause before the next write after a failure, or after the entry was removed.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause if there is another writer: two that write at once would keep changing every bundle of the
/// cluster.
const LONGEST_CONTESTED: Duration = Duration::from_secs(3600);
/// A change that long after the last write is not caused by another writer.
const CALM: Duration = Duration::from_secs(2 * 3600);
/// How long after a write it may take until the watch reports it.
const LAG: Duration = Duration::from_secs(10);

/// Writes this node's entry.
pub(super) struct Publisher {
    map: Api<ConfigMap>,
    place: ConfigMapPlace,
    node: String,
    text: String,
    troubles: Troubles,
    /// The time of the last write.
    written: Option<Instant>,
    /// How often it was missing then.
    removed: u32,
    /// How often another writer's entry was in its place.
    contested: u32,
    /// The number of failed attempts since.
    failures: u32,
}

impl Publisher {
    pub(super) fn new(
        map: Api<ConfigMap>,
        place: &ConfigMapPlace,
        node: &str,
        own: &Authorities,
        troubles: Troubles,
    ) -> Self {
        let text = String::from_utf8_lossy(&own.to_json()).into_owned();
        let (place, node) = (place.clone(), node.to_owned());
        Self { map, place, node, text, troubles, written: None, removed: 0, contested: 0, failures: 0 }
    }

    /// Ensures that the entry exists.
    pub(super) async fn run(mut self, mut seen: watch::Receiver<SharedMap>) -> Infallible {
        loop {
            let state = seen.borrow_and_update().clone();
            if let Some(entries) = state.entries().filter(|entries| !self.is_in(entries)) {
                sleep(self.turn(entries.contains_key(&self.node))).await;
                if self.is_wrong(&seen.borrow()) {
                    self.try_to_write(&mut seen).await;
                }
                continue;
            }
            if state != SharedMap::Unknown {
                self.troubles.set(Of::Own, None);
            }
            if seen.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    async fn try_to_write(&mut self, seen: &mut watch::Receiver<SharedMap>) {
        match self.write().await {
            Ok(()) => {
                (self.failures, self.written) = (0, Some(Instant::now()));
                // Until then it looks as if it had been changed.
                let _ = timeout(LAG, seen.wait_for(|state| !self.is_wrong(state))).await;
            }
            Err(error) => self.failed(&error),
        }
    }

    fn is_in(&self, entries: &BTreeMap<String, String>) -> bool {
        entries.get(&self.node) == Some(&self.text)
    }

    fn is_wrong(&self, state: &SharedMap) -> bool {
        state.entries().is_some_and(|entries| !self.is_in(&entries))
    }

    /// How long to wait before the next write. The first time, the existing entry most likely comes from an earlier
    /// run.
    fn turn(&mut self, is_anothers: bool) -> Duration {
        if self.failures > 0 {
            return pause(self.failures, LONGEST);
        }
        let Some(written) = self.written else { return Duration::ZERO };
        if written.elapsed() > CALM {
            (self.removed, self.contested) = (0, 0);
        }
        if !is_anothers {
            self.removed += 1;
            return pause(self.removed, LONGEST);
        }
        self.contested += 1;
        self.log_contest();
        pause(self.contested, LONGEST_CONTESTED)
    }

    /// A single change may come from a driver that was just stopping, or from an attacker who wants to be trusted as
    /// this node.
    fn log_contest(&self) {
        let (node, place) = (&self.node, &self.place);
        if self.contested == 1 {
            return warn!(node, config_map = %place, "this node's entry was changed by another writer; writing it again");
        }
        let trouble = format!(
            "the entry {node} of the ConfigMap {place} has another writer: give each driver a --node-id of its own"
        );
        self.troubles.set(Of::Own, Some(trouble.clone()));
        if self.contested.is_power_of_two() {
            error!(error = trouble, "other nodes do not trust the pods of this node");
        }
    }

    async fn write(&self) -> Result<(), CallError> {
        let patch = Patch::Merge(json!({"data": {&self.node: self.text}}));
        let as_ever = PatchParams::default();
        within(CALL_TIMEOUT, self.map.patch(&self.place.name, &as_ever, &patch)).await?;
        info!(node = self.node, config_map = %self.place, "published this node's root to the other nodes");
        Ok(())
    }

    fn failed(&mut self, failed: &CallError) {
        self.failures = self.failures.saturating_add(1);
        let why = match failed {
            CallError::Failed(error) if error::is_forbidden(error) => {
                format!("grant this service account the verb patch on it ({})", error::describe(error))
            }
            other => other.to_string(),
        };
        let trouble = format!("the entry {} of the ConfigMap {} cannot be written: {why}", self.node, self.place);
        if self.troubles.set(Of::Own, Some(trouble.clone())) {
            warn!(
                error = trouble,
                finding = finding!("roots-not-shared").id,
                "cannot publish this node's root; other nodes do not trust its pods until it is published"
            );
        } else {
            debug!(error = trouble, "still cannot publish this node's root");
        }
    }
}

#[cfg(test)]
mod tests;
