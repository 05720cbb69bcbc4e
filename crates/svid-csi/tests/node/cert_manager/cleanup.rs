//! Requests that are no longer needed are deleted, but not those of others.

use serde_json::json;
use svid_csi_core::cert_request::{NODE_LABEL, VOLUME_LABEL, hash_identifier};
use svid_csi_testkit::api_server::Mode;

use super::cluster::{Cluster, REQUESTS, cluster_test};
use crate::endpoints::renew_all;
use crate::fixture::{serial, until};

/// A request as a driver on `node` created it for a volume of the pod with that UID.
fn foreign(cluster: &Cluster, name: &str, node: &str, volume: &str, pod_uid: &str) {
    let labels = json!({NODE_LABEL: hash_identifier(node), VOLUME_LABEL: hash_identifier(volume)});
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": pod_uid});
    let metadata = json!({"name": name, "namespace": "shop", "labels": labels, "ownerReferences": [owner]});
    let spec = json!({"request": "", "issuerRef": {"name": "spiffe-ca"}});
    let kind = "CertificateRequest";
    cluster
        .server
        .objects
        .put(json!({"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": metadata, "spec": spec}));
}

fn names(cluster: &Cluster) -> Vec<String> {
    cluster.server.cert_manager.requests().into_iter().map(|request| request.metadata.name).collect()
}

#[test]
fn unpublishing_removes_everything_of_the_volume_and_nothing_else() {
    cluster_test(&[], async |cluster| {
        let volume = cluster.volume("web");
        let id = volume.id().to_string();
        cluster.node.publish(&volume).await;
        foreign(&cluster, "left-over", "n1", &id, "uid-of-web");
        foreign(&cluster, "other-node", "n2", &id, "uid-of-web");
        foreign(&cluster, "other-volume", "n1", "csi-another", "uid-of-web");
        foreign(&cluster, "same-hash", "n1", &id, "uid-of-another-pod");
        // Once a later change was processed, all of these were, too.
        cluster.node.publish(&cluster.volume("api")).await;
        cluster.node.unpublish(&volume).await;
        cluster.until("two are removed", || (names(&cluster).len() == 4).then_some(())).await;
        let kept = names(&cluster);
        assert!(
            ["other-node", "other-volume", "same-hash"].iter().all(|name| kept.contains(&(*name).to_owned())),
            "{kept:?}"
        );
        let deletes = cluster.server.calls.of("delete", REQUESTS);
        assert!(
            deletes.iter().all(|call| !["other-node", "other-volume", "same-hash"].contains(&&*call.name)),
            "{deletes:?}"
        );
    });
}

#[test]
fn a_pod_deleted_before_its_identity_arrived_leaves_nothing() {
    cluster_test(&[], async |cluster| {
        cluster.server.cert_manager.mode(Mode::ByHand);
        let volume = cluster.volume("web");
        tokio::select! {
            _ = cluster.pending("web") => {}
            target = cluster.node.publish(&volume) => panic!("published: {}", target.display()),
        }
        cluster.node.unpublish(&volume).await;
        cluster.until("it is removed", || names(&cluster).is_empty().then_some(())).await;
        assert!(!cluster.node.kubelet.target(&volume).exists());
    });
}

#[test]
fn a_renewal_in_progress_ends_with_its_volume_and_no_other() {
    cluster_test(&["--request-mode=own"], async |cluster| {
        let gone = cluster.volume("web");
        let mut kept = cluster.volume("web");
        kept.name = "second".to_owned();
        for volume in [&gone, &kept] {
            cluster.node.publish(volume).await;
        }
        cluster.server.cert_manager.mode(Mode::ByHand);
        renew_all(&cluster.node).await;
        cluster.until("both ask", || (cluster.server.cert_manager.pending().len() == 2).then_some(())).await;
        cluster.node.unpublish(&gone).await;
        let hash = hash_identifier(kept.id().as_str());
        cluster
            .until("only those of the other volume are left", || {
                let requests = cluster.server.cert_manager.requests();
                let all_kept = requests.iter().all(|request| request.metadata.labels[VOLUME_LABEL] == hash);
                (all_kept && requests.len() == 2).then_some(())
            })
            .await;
        let first = serial(&cluster.node.kubelet.target(&kept));
        let pending = cluster.server.cert_manager.pending().remove(0).metadata.name;
        assert!(cluster.server.cert_manager.sign(&pending, &cluster.issuing()));
        let target = cluster.node.kubelet.target(&kept);
        until("the other volume is renewed", async || serial(&target) != first).await;
    });
}

#[test]
fn requests_of_another_node_are_not_even_read() {
    cluster_test(&[], async |cluster| {
        cluster.node.publish(&cluster.volume("web")).await;
        let selector = format!("labelSelector={}", NODE_LABEL.replace('/', "%2F"));
        for verb in ["list", "watch"] {
            let calls = cluster.server.calls.of(verb, REQUESTS);
            let value = hash_identifier("n1");
            assert!(calls.iter().all(|call| call.uri.contains(&selector) && call.uri.contains(&value)), "{calls:?}");
        }
    });
}
