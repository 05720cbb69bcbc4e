//! Objects and permissions in the API server.

use serde_json::{Value, json};

use super::{doctor, finds, found, ids, text};
use crate::cert_manager::cluster::{Cluster, cluster_test};
use crate::fixture::until;

const KUBELET: &[&str] = &["--kubelet-dir={dir}/kubelet"];

pub(super) fn put(cluster: &Cluster, object: Value) {
    cluster.server.objects.put(object);
}

/// The CSIDriver object, complete or as an administrator may write it who has not read the documentation.
pub(super) fn object(is_complete: bool) -> Value {
    let spec = match is_complete {
        true => json!({
            "volumeLifecycleModes": ["Ephemeral"], "podInfoOnMount": true, "requiresRepublish": true,
            "tokenRequests": [{"audience": ""}],
        }),
        false => json!({"volumeLifecycleModes": ["Persistent"], "tokenRequests": [{"audience": "vault"}]}),
    };
    let metadata = json!({"name": "spiffe.csi.cert-manager.io"});
    json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": metadata, "spec": spec})
}

fn issuer(spec: Value, is_ready: &str) -> Value {
    let conditions = json!([{"type": "Ready", "status": is_ready, "message": "the HSM is on holiday"}]);
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": "spiffe-ca"},
        "spec": spec, "status": {"conditions": conditions},
    })
}

#[test]
fn objects_that_are_missing_incomplete_or_unusable() {
    cluster_test(KUBELET, async |cluster| {
        cluster.server.permissions.everything();
        finds(&cluster.node, &["csidriver-missing", "issuer-missing"]).await;
        put(&cluster, object(false));
        put(&cluster, issuer(json!({"ca": {}}), "False"));
        finds(&cluster.node, &["csidriver-lacks-fields", "issuer-not-ready"]).await;
        let (_, answer) = doctor(&cluster.node, &["--category=cluster"]);
        let causes: Vec<_> = found(&answer).map(|finding| text(finding, "cause")).collect();
        let fields = ["volumeLifecycleModes", "podInfoOnMount", "tokenRequests", "requiresRepublish"];
        assert!(fields.iter().all(|field| causes[0].contains(field)), "{causes:?}");
        assert_eq!(causes[1], "the HSM is on holiday");
        put(&cluster, object(true));
        put(&cluster, issuer(json!({"selfSigned": {}}), "True"));
        finds(&cluster.node, &["issuer-unusable"]).await;
        put(&cluster, issuer(json!({"ca": {}}), "True"));
        finds(&cluster.node, &[]).await;
        let (_, answer) = doctor(&cluster.node, &[]);
        assert_eq!(answer["not_checked"].as_array().unwrap().len(), 1, "registration by a sidecar: {answer}");
    });
}

#[test]
fn permissions_and_clocks() {
    cluster_test(KUBELET, async |cluster| {
        put(&cluster, object(true));
        put(&cluster, issuer(json!({"ca": {}}), "True"));
        cluster.server.permissions.only(|access| access.action() != "delete certificaterequests");
        finds(&cluster.node, &["permission-missing"]).await;
        let (_, answer) = doctor(&cluster.node, &["--category=cluster"]);
        let finding = found(&answer).next().unwrap();
        assert_eq!(finding["about"], "delete certificaterequests.cert-manager.io");
        cluster.server.permissions.everything();
        finds(&cluster.node, &[]).await;
        cluster.server.pretend_date("Tue, 14 Nov 2023 22:13:20 GMT");
        finds(&cluster.node, &["clock-skew"]).await;
    });
}

#[test]
fn an_api_server_that_refuses_or_is_away() {
    cluster_test(KUBELET, async |cluster| {
        cluster
            .server
            .permissions
            .only(|access| access.action() != "get csidrivers" && access.action() != "get clusterissuers");
        finds(&cluster.node, &[]).await;
        let (_, answer) = doctor(&cluster.node, &[]);
        let skipped = answer["not_checked"].to_string();
        assert!(skipped.contains("CSIDriver object spiffe.csi.cert-manager.io") && skipped.contains("403"), "{answer}");
        cluster.server.stop();
        until("both are found", async || {
            let found = ids(&cluster.node);
            found.contains("api-server-unreachable") && found.contains("requests-not-watched")
        })
        .await;
    });
}
