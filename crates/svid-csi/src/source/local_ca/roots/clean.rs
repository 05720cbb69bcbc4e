//! Removes the entries of deleted nodes: a few at each startup.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info};

use super::shared_map::SharedMap;
use crate::backoff::jitter;
use crate::kube::call::{CallError, within};
use crate::kube::client::CALL_TIMEOUT;
use crate::kube::error;

/// The number of entries checked at startup. The drivers of other nodes also start, and check others.
const MOST: usize = 50;
/// The time between two checks.
const PAUSE: Duration = Duration::from_millis(100);

/// Checks whether the nodes of some entries exist, and removes the entries of those that do not.
pub(super) async fn clean(
    client: Client,
    map: Api<ConfigMap>,
    name: String,
    own: String,
    mut seen: watch::Receiver<SharedMap>,
) {
    let Ok(state) = seen.wait_for(|state| state.entries().is_some()).await.map(|state| state.clone()) else { return };
    let entries = state.entries().unwrap_or_default();
    let others: Vec<_> = entries.iter().filter(|(node, _)| **node != own).collect();
    if others.is_empty() {
        return;
    }
    let nodes: Api<Node> = Api::all(client);
    // If this node has another name in Kubernetes, other nodes may, too.
    match is_there(&nodes, &own).await {
        Ok(true) => {}
        Ok(false) => {
            return info!(
                node = own,
                "there is no node with the name in --node-id: entries of deleted nodes are not removed"
            );
        }
        Err(error) => return log_failure(&error),
    }
    let first = (jitter() * others.len() as f64) as usize;
    for (node, text) in others.iter().cycle().skip(first).take(MOST.min(others.len())) {
        sleep(PAUSE).await;
        match is_there(&nodes, node).await {
            Ok(true) => {}
            Ok(false) => remove(&map, &name, node, text).await,
            Err(error) => return log_failure(&error),
        }
    }
}

async fn is_there(nodes: &Api<Node>, name: &str) -> Result<bool, CallError> {
    match within(CALL_TIMEOUT, nodes.get_metadata(name)).await {
        Ok(_) => Ok(true),
        Err(CallError::Failed(error)) if error::is_not_found(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the entry, unless it has changed.
async fn remove(map: &Api<ConfigMap>, name: &str, node: &str, text: &str) {
    let path = format!("/data/{node}");
    let operations = json!([{"op": "test", "path": path, "value": text}, {"op": "remove", "path": path}]);
    let Ok(patch) = serde_json::from_value(operations) else { return };
    match within(CALL_TIMEOUT, map.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch))).await {
        Ok(_) => info!(node, "removed the entry of a deleted node from the ConfigMap of --local-ca-roots"),
        Err(error) => debug!(node, %error, "cannot remove the entry of a deleted node"),
    }
}

fn log_failure(error: &CallError) {
    match error {
        CallError::Failed(forbidden) if error::is_forbidden(forbidden) => {
            info!(%error, "cannot remove entries of deleted nodes from the ConfigMap of --local-ca-roots: grant this service account the verb get on nodes");
        }
        _ => debug!(%error, "cannot look up nodes; entries of deleted nodes stay"),
    }
}
