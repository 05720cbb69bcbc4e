//! --startup-taint: the taint is removed when the kubelet has accepted every driver name, and not earlier.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use svid_csi_testkit::api_server::{Access, ApiServer, Fault, User};

use crate::fixture::{FILES, Node, test, until, volume};

const WITHIN: Duration = Duration::from_secs(120);
const TOKEN: &str = "t0ken";

/// A node with the taint and a running driver that serves two driver names.
async fn tainted(server: &ApiServer) -> Node {
    server.users.accept(TOKEN, User::service_account("svid-csi", "svid-csi"));
    taint(server);
    let mut node = Node::new(&[
        FILES,
        &["--data-root={dir}/root", "--trust-domain=example.org", "-workload-api-socket-dir={dir}/run/agent"],
        &["--kubelet-registration-dir={dir}/kubelet/plugins_registry"],
        &["--kubelet-registration-path={dir}/csi.sock"],
        &["--also-profile=csi.spiffe.io:csi-socket={dir}/spiffe.sock,registration-path={dir}/spiffe.sock"],
        &["--startup-taint=svid-csi/not-ready", "--kubeconfig={dir}/kubeconfig"],
    ]);
    fs::write(node.path("kubeconfig"), server.kubeconfig(TOKEN)).unwrap();
    node.start().await;
    node
}

fn taint(server: &ApiServer) {
    let taints = json!([
        {"key": "svid-csi/not-ready", "effect": "NoSchedule"},
        {"key": "other", "effect": "NoSchedule"},
        {"key": "svid-csi/not-ready", "value": "x", "effect": "NoExecute"},
    ]);
    let metadata = json!({"name": "n1"});
    server.objects.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": taints}}));
}

fn taints(server: &ApiServer) -> Value {
    server.objects.get("nodes", "", "n1").unwrap()["spec"]["taints"].clone()
}

fn only_other() -> Value {
    json!([{"key": "other", "effect": "NoSchedule"}])
}

async fn is_removed(server: &ApiServer) {
    until("the taint is removed", async || taints(server) == only_other()).await;
}

#[test]
fn it_is_removed_once_every_driver_name_is_registered() {
    test(async || {
        let server = ApiServer::start();
        let node = tainted(&server).await;
        node.kubelet.register("demo.svid-csi", WITHIN).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!server.calls.log().contains("/nodes/"), "one name is still missing: {}", server.calls.log());
        node.kubelet.register("csi.spiffe.io", WITHIN).await.unwrap();
        is_removed(&server).await;
        assert_eq!(server.calls.count("patch", "nodes"), 1);

        taint(&server);
        node.kubelet.register("demo.svid-csi", WITHIN).await.unwrap();
        is_removed(&server).await;
    });
}

#[test]
fn a_missing_permission_is_reported_once_and_does_not_delay_pods() {
    test(async || {
        let server = ApiServer::start();
        server.permissions.only(|access: &Access| access.action() == "get nodes");
        let node = tainted(&server).await;
        for name in ["demo.svid-csi", "csi.spiffe.io"] {
            node.kubelet.register(name, WITHIN).await.unwrap();
        }
        until("it is refused again and again", async || server.calls.count("patch", "nodes") >= 3).await;
        node.publish(&volume("web")).await;
        let times_logged = node.log().matches("grant this service account the verbs get and patch on nodes").count();
        assert_eq!(times_logged, 1, "{}", node.log());
        server.permissions.everything();
        server.faults.next(1, "patch", "nodes", Fault::LoseAnswer);
        is_removed(&server).await;
    });
}
