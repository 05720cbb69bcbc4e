//! Where identities come from.

use std::fs;
use std::time::Duration;

use serde_json::json;
use svid_csi_testkit::api_server::{ApiServer, Mode, User};

use super::{doctor, found, ids};
use crate::broker::scene::{Scene, files_test};
use crate::cert_manager::cluster::{Cluster, cluster_test, prepared_test};
use crate::fixture::{FILES, Node, test, until, volume};

async fn finds_about(node: &Node, id: &str, about: &str) {
    until(id, async || {
        let (_, answer) = doctor(node, &[]);
        found(&answer).any(|finding| finding["id"] == id && finding["about"] == about)
    })
    .await;
}

#[test]
fn an_agent_that_ends_and_a_pod_without_an_entry() {
    files_test(async |scene: Scene| {
        let node = &scene.node;
        assert!(!ids(node).contains("broker-not-connected"));
        let (starting, long) = (volume("web"), Duration::from_secs(110));
        tokio::select! {
            started = scene.node.publish_within(&starting, long) => panic!("{started:?}"),
            () = finds_about(node, "no-registration-entry", "shop/web") => {}
        }
        scene.agent.stop();
        let endpoint = format!("unix://{}", node.path("run/broker/api.sock").display());
        finds_about(node, "broker-not-connected", &endpoint).await;
        tokio::select! {
            started = scene.node.publish_within(&starting, long) => panic!("{started:?}"),
            () = finds_about(node, "agent-not-answering", "shop/web") => {}
        }
    });
}

#[test]
fn a_local_ca_whose_files_cannot_be_read() {
    test(async || {
        let mut node = Node::new(&[
            FILES,
            &[
                "--data-root={dir}/root",
                "--trust-domain=example.org",
                "--local-ca-dir={dir}/ca",
                "--admin-socket={dir}/admin.sock",
            ],
        ]);
        node.start().await;
        assert!(!ids(&node).contains("local-ca-not-loaded"));
        node.terminate().await;
        let (key, away) = (node.path("ca/ca.key"), node.path("ca/away"));
        fs::rename(&key, &away).unwrap();
        fs::create_dir(&key).unwrap();
        node.start().await;
        finds_about(&node, "local-ca-not-loaded", "local-ca").await;
        fs::remove_dir(&key).unwrap();
        fs::rename(&away, &key).unwrap();
        until("it is loaded", async || !ids(&node).contains("local-ca-not-loaded")).await;
        node.publish(&volume("web")).await;
    });
}

/// Publishes a pod that does not start meanwhile.
async fn while_starting(cluster: &Cluster, pod: &str, id: &str) {
    let (plugin, volume) = (cluster.node.plugin().await, cluster.volume(pod));
    let about = format!("shop/{pod}");
    let publishing = async {
        loop {
            let published = cluster.node.kubelet.publish(&plugin, &volume).await;
            assert!(published.is_err(), "{pod} has started");
        }
    };
    tokio::select! {
        () = publishing => {}
        () = finds_about(&cluster.node, id, &about) => {}
    }
}

#[test]
fn requests_that_wait_or_fail() {
    cluster_test(&[], async |cluster| {
        cluster.server.cert_manager.mode(Mode::ByHand);
        while_starting(&cluster, "web", "request-not-approved").await;
        cluster.server.cert_manager.mode(Mode::Approve);
        while_starting(&cluster, "api", "request-not-issued").await;
    });
}

#[test]
fn a_request_that_failed() {
    cluster_test(&[], async |cluster| {
        cluster.server.cert_manager.mode(Mode::Issue(cluster.issuing()));
        cluster.node.publish(&cluster.volume("db")).await;
        cluster.server.cert_manager.mode(Mode::Fail("the HSM is on holiday".to_owned()));
        crate::endpoints::renew_pod(&cluster.node, "shop/db").await;
        finds_about(&cluster.node, "request-failed", "shop/db").await;
    });
}

#[test]
fn an_api_server_that_is_away() {
    cluster_test(&[], async |cluster| {
        assert!(!ids(&cluster.node).contains("requests-not-watched"));
        cluster.server.stop();
        finds_about(&cluster.node, "requests-not-watched", "cert-manager").await;
    });
}

#[test]
fn a_trust_bundle_that_is_missing() {
    prepared_test(&[], async |mut cluster| {
        fs::remove_file(cluster.node.path("ca.crt")).unwrap();
        cluster.start().await;
        while_starting(&cluster, "web", "trust-bundle-missing").await;
    });
}

#[test]
fn a_token_that_does_not_come_again() {
    cluster_test(&[], async |mut cluster| {
        cluster.node.publish(&cluster.volume("web")).await;
        cluster.node.kill();
        cluster.start().await;
        crate::endpoints::renew_all(&cluster.node).await;
        finds_about(&cluster.node, "no-service-account-token", "shop/web").await;
    });
}

#[test]
fn a_renewal_that_waits_for_its_turn() {
    cluster_test(&["--renewal-concurrency=1", "--request-mode=own"], async |cluster| {
        for pod in ["web", "api"] {
            cluster.node.publish(&cluster.volume(pod)).await;
        }
        assert!(!ids(&cluster.node).contains("volume-waiting"));
        cluster.server.cert_manager.mode(Mode::ByHand);
        crate::endpoints::renew_pod(&cluster.node, "shop/web").await;
        cluster.pending("web").await;
        crate::endpoints::renew_pod(&cluster.node, "shop/api").await;
        finds_about(&cluster.node, "volume-waiting", "shop/api").await;
    });
}

#[test]
fn roots_that_cannot_be_shared() {
    test(async || {
        let server = ApiServer::start();
        server.users.accept("t0ken", User::service_account("svid-csi", "svid-csi"));
        server.permissions.everything();
        let metadata = json!({"name": "roots", "namespace": "svid-csi"});
        server.objects.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}));
        let mut node = Node::new(&[
            FILES,
            &["--data-root={dir}/root", "--trust-domain=example.org", "--kubelet-dir={dir}/kubelet"],
            &["--local-ca-roots=svid-csi/roots", "--kubeconfig={dir}/kubeconfig"],
        ]);
        fs::write(node.path("kubeconfig"), server.kubeconfig("t0ken")).unwrap();
        node.start().await;
        until("the roots are shared", async || !ids(&node).contains("roots-not-shared")).await;
        server.objects.remove("configmaps", "svid-csi", "roots");
        finds_about(&node, "roots-not-shared", "local-ca").await;
        let (_, answer) = doctor(&node, &["--category=source"]);
        assert!(answer.to_string().contains("create it, without data"), "{answer}");
    });
}
