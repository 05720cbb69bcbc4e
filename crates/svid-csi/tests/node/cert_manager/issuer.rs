//! The issuer named by a ConfigMap that appears, changes and disappears.

use serde_json::{Value, json};
use svid_csi_testkit::api_server::Mode;

use super::cluster::{Cluster, REQUESTS, cluster_test, prepared_test};
use crate::fixture::until;

const FLAGS: &[&str] =
    &["--runtime-issuance-config-map-name=issuance", "--runtime-issuance-config-map-namespace=cert-manager"];

fn map(data: Value) -> Value {
    let metadata = json!({"name": "issuance", "namespace": "cert-manager"});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
}

fn issuer(name: &str) -> Value {
    map(json!({"issuer-name": name, "issuer-kind": "ClusterIssuer", "issuer-group": "cert-manager.io"}))
}

/// The issuer named in the request of a newly published pod.
async fn issuer_of(cluster: &Cluster, pod: &str) -> String {
    cluster.node.publish(&cluster.volume(pod)).await;
    cluster.server.cert_manager.of_pod(pod)[0].spec.issuer_ref.name.clone()
}

async fn until_logged(cluster: &Cluster, times: usize, words: &str) {
    let log = async || cluster.node.log().matches(words).count() >= times;
    until(&format!("the driver says: {words}"), log).await;
}

#[test]
fn it_is_followed_from_creation_to_deletion() {
    cluster_test(FLAGS, async |cluster| {
        assert_eq!(issuer_of(&cluster, "before").await, "spiffe-ca");
        cluster.server.objects.put(issuer("first"));
        until_logged(&cluster, 1, "first").await;
        assert_eq!(issuer_of(&cluster, "come").await, "first");
        cluster.server.objects.put(issuer("second"));
        until_logged(&cluster, 1, "second").await;
        assert_eq!(issuer_of(&cluster, "changed").await, "second");
        cluster.server.objects.put(map(json!({"issuer-name": "third", "issuer-group": "cert-manager.io"})));
        until_logged(&cluster, 1, "issuer-kind").await;
        assert_eq!(issuer_of(&cluster, "incomplete").await, "second", "the last good one stays");
        cluster.server.objects.put(issuer("fourth"));
        until_logged(&cluster, 1, "fourth").await;
        assert!(cluster.server.objects.remove("configmaps", "cert-manager", "issuance"));
        until_logged(&cluster, 2, "does not exist; using the issuer from the flags").await;
        assert_eq!(issuer_of(&cluster, "gone").await, "spiffe-ca");
        assert_eq!(
            cluster.server.calls.count("get", "configmaps"),
            0,
            "it is followed: {}",
            cluster.server.calls.log()
        );
    });
}

#[test]
fn the_first_request_after_startup_names_it() {
    prepared_test(FLAGS, async |mut cluster| {
        cluster.server.objects.put(issuer("runtime"));
        cluster.node.start().await;
        assert_eq!(issuer_of(&cluster, "web").await, "runtime");
    });
}

#[test]
fn a_request_for_the_former_issuer_is_given_up() {
    cluster_test(FLAGS, async |cluster| {
        cluster.server.cert_manager.mode(Mode::ByHand);
        let volume = cluster.volume("web");
        let switch = async {
            let (old, _) = cluster.pending("web").await;
            cluster.server.objects.put(issuer("new"));
            let made =
                || cluster.server.cert_manager.pending().into_iter().find(|request| request.metadata.name != old);
            let request = cluster.until("a request for the new issuer", made).await;
            assert_eq!(request.spec.issuer_ref.name, "new");
            assert!(cluster.server.cert_manager.sign(&request.metadata.name, &cluster.issuing()));
        };
        tokio::join!(cluster.node.publish(&volume), switch);
        let is_one = || (cluster.server.cert_manager.requests().len() == 1).then_some(());
        cluster.until("the old request is removed", is_one).await;
        assert_eq!(cluster.server.calls.count("create", REQUESTS), 2, "{}", cluster.server.calls.log());
    });
}

#[test]
fn an_issuer_that_can_never_sign_is_named() {
    cluster_test(&[], async |cluster| {
        cluster.server.permissions.everything();
        for (kind, word) in [("selfSigned", "SelfSigned"), ("acme", "ACME")] {
            let object = |spec: Value| {
                json!({"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer",
                "metadata": {"name": "spiffe-ca"}, "spec": spec})
            };
            cluster.server.objects.put(object(json!({kind: {}})));
            let (code, message) = cluster.node.refused(&cluster.volume("web")).await;
            assert_eq!(code, tonic::Code::FailedPrecondition, "{message}");
            assert!(message.contains(word) && message.contains("spiffe-ca"), "{message}");
        }
        assert_eq!(cluster.creates(), 0);
    });
}
