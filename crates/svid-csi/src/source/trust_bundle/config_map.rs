//! A trust bundle in a ConfigMap, as trust-manager and others publish it.

use std::convert::Infallible;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use svid_csi_core::runtime_issuer::ConfigMapPlace;

use super::TrustBundleError;
use super::updater::BundleUpdater;
use crate::kube::one_object::OneObject;

/// Follows the key of the ConfigMap.
pub(super) async fn follow(
    mut updater: BundleUpdater,
    client: Client,
    place: ConfigMapPlace,
    key: String,
    restarts: Counter,
) -> Infallible {
    let api: Api<ConfigMap> = Api::namespaced(client, &place.namespace);
    let object = format!("ConfigMap {place} (--trust-bundle)");
    let mut states = OneObject::new(api, &place.name, object.clone(), restarts);
    loop {
        match states.next().await {
            Ok(Some(map)) => match value(map, &key) {
                Some(pem) => updater.offer(pem).await,
                None => updater.take(Err(TrustBundleError::NoKey { object: object.clone(), key: key.clone() })),
            },
            Ok(None) => updater.take(Err(TrustBundleError::Absent { object: object.clone() })),
            Err(error) => updater.out_of_sight(&error.into()),
        }
    }
}

fn value(map: ConfigMap, key: &str) -> Option<Vec<u8>> {
    let text = map.data.unwrap_or_default().remove(key).map(String::into_bytes);
    text.or_else(|| map.binary_data.unwrap_or_default().remove(key).map(|bytes| bytes.0))
}
