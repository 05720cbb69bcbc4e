use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{CurrentBundle, pem};
use crate::kube::scripted::Scripted;
use crate::source::trust_bundle::start;
use crate::tasks::Tasks;
use crate::telemetry::captured_log::CapturedLog;
use crate::telemetry::metrics::Metrics;

fn config_maps() -> Scripted {
    Scripted::new("/api/v1/namespaces/shop/configmaps", "roots")
}

fn config_map(pem: &str) -> Option<Value> {
    Some(json!({"data": {"ca.crt": pem, "other": "x"}}))
}

fn cluster_trust_bundles(version: &str) -> Scripted {
    Scripted::new(&format!("/apis/certificates.k8s.io/{version}/clustertrustbundles"), "roots")
}

fn cluster_trust_bundle(pem: &str) -> Option<Value> {
    Some(json!({"spec": {"signerName": "example.org/ca", "trustBundle": pem}}))
}

fn follow(source: &str, server: &Scripted) -> CurrentBundle {
    start(source.parse().unwrap(), Some(server.client()), &Metrics::default(), &Tasks::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_config_map_is_followed() {
    let log = CapturedLog::start();
    let server = config_maps();
    let mut current = follow("configmap:shop/roots/ca.crt", &server);
    current.troubled("there is no ConfigMap shop/roots (--trust-bundle)").await;
    let (a, b) = (pem(), pem());
    server.set(config_map(&a));
    current.becomes(&a).await;
    assert_eq!(current.trouble(), None);
    let binary = base64(&b);
    server.set(Some(json!({"binaryData": {"ca.crt": binary}})));
    current.becomes(&b).await;
    current.bundle.mark_unchanged();
    for (object, trouble) in [
        (Some(json!({"data": {"other": "x"}})), "the ConfigMap shop/roots (--trust-bundle) has no key ca.crt"),
        (config_map("x"), "the key ca.crt of the ConfigMap shop/roots (--trust-bundle) is not a valid trust bundle"),
        (None, "there is no ConfigMap shop/roots"),
    ] {
        server.set(object);
        current.troubled(trouble).await;
    }
    server.set(config_map(&b));
    current.untroubled().await;
    assert!(!current.bundle.has_changed().unwrap(), "the last good one stays, and is the same");
    assert_eq!(log.lines("the trust bundle is invalid").len(), 4);
    let calls = server.until(|_| true).await;
    assert_eq!((calls.lists, calls.watches), (1, 1), "nothing is polled");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_config_map_is_reported_once_and_retried() {
    let log = CapturedLog::start();
    let server = config_maps();
    let good = pem();
    server.set(config_map(&good));
    server.refuse(Some(StatusCode::FORBIDDEN));
    let mut current = follow("configmap:shop/roots/ca.crt", &server);
    server.until(|calls| calls.refused >= 10).await;
    current.troubled("grant this service account the verbs get, list and watch").await;
    assert_eq!(log.lines("not allowed to read the ConfigMap shop/roots (--trust-bundle)").len(), 1);
    server.refuse(None);
    current.becomes(&good).await;
    current.untroubled().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_trust_bundle_is_followed_in_the_available_version() {
    for version in ["v1", "v1beta1", "v1alpha1"] {
        let log = CapturedLog::start();
        let server = cluster_trust_bundles(version);
        let (a, b) = (pem(), pem());
        server.set(cluster_trust_bundle(&a));
        let mut current = follow("clustertrustbundle:roots", &server);
        current.becomes(&a).await;
        server.set(cluster_trust_bundle(&b));
        current.becomes(&b).await;
        server.set(None);
        current.troubled("there is no ClusterTrustBundle roots").await;
        assert_eq!(log.lines("WARN").len(), 0, "looking for the version is not a problem");
    }
}

#[tokio::test(start_paused = true)]
async fn without_cluster_trust_bundles_the_fix_is_named_once() {
    let log = CapturedLog::start();
    let server = config_maps();
    let mut current = follow("clustertrustbundle:roots", &server);
    current.troubled("it needs the feature gate ClusterTrustBundle").await;
    server.until(|calls| calls.refused >= 30).await;
    assert_eq!(log.lines("the API server does not serve ClusterTrustBundles").len(), 1);
    assert_eq!(log.lines("not allowed to read").len() + log.lines("cannot be read").len(), 0);
}

fn base64(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap().as_str().unwrap().to_owned()
}
