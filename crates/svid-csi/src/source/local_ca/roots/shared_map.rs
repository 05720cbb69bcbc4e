//! The ConfigMap as it was last seen.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use prometheus_client::metrics::counter::Counter;
use svid_csi_core::finding;
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use tokio::sync::watch;
use tracing::error;

use super::trouble::{Of, Troubles};
use crate::kube::one_object::OneObject;
use crate::telemetry::report;

/// Its content: a text for each node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SharedMap {
    /// Not read yet.
    Unknown,
    /// It does not exist.
    Absent,
    /// These entries.
    There(Arc<BTreeMap<String, String>>),
}

impl SharedMap {
    pub(super) fn entries(&self) -> Option<Arc<BTreeMap<String, String>>> {
        if let SharedMap::There(entries) = self { Some(entries.clone()) } else { None }
    }
}

/// Follows the ConfigMap. If it cannot be read, the last state is kept.
pub(super) async fn follow(
    map: Api<ConfigMap>,
    place: ConfigMapPlace,
    states: watch::Sender<SharedMap>,
    troubles: Troubles,
    restarts: Counter,
) -> Infallible {
    let object = format!("ConfigMap {place} (--local-ca-roots)");
    let mut map = OneObject::new(map, &place.name, object.clone(), restarts);
    loop {
        match map.next().await {
            Ok(Some(map)) => {
                states.send_replace(SharedMap::There(Arc::new(map.data.unwrap_or_default())));
                troubles.set(Of::Map, None);
            }
            Ok(None) => {
                states.send_replace(SharedMap::Absent);
                let trouble = format!("there is no {object}; create it, without data");
                if troubles.set(Of::Map, Some(trouble.clone())) {
                    error!(
                        error = trouble,
                        finding = finding!("roots-not-shared").id,
                        "the ConfigMap of --local-ca-roots does not exist; until it is created, this node and new nodes do not trust each other"
                    );
                }
            }
            Err(error) => _ = troubles.set(Of::Map, Some(report::chain(&error))),
        }
    }
}
