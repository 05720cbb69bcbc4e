//! What the kubelet learns about the driver: NodeGetStorageHealth, and /readyz.

use std::fs;
use std::time::Duration;

use svid_csi_proto::csi_v1::{NodeGetStorageHealthRequest, StorageHealthErrorType};

use crate::broker::scene::{FILES, SOCKET, Scene, files_test, prepared_test};
use crate::endpoints::tcp;
use crate::fixture::{Node, test, until};

/// The reasons of the conditions, those of an unreachable source with a `!`.
async fn conditions(node: &Node) -> Vec<String> {
    let mut driver = node.plugin().await.node().await.unwrap();
    let health = driver.node_get_storage_health(NodeGetStorageHealthRequest {}).await.unwrap().into_inner();
    let condition = |condition: svid_csi_proto::csi_v1::node_get_storage_health_response::StorageBackendHealth| {
        assert!(condition.message.len() > 20, "{condition:?}");
        let is_unreachable = condition.status() == StorageHealthErrorType::StorageUnreachable;
        condition.reason + if is_unreachable { "!" } else { "" }
    };
    health.backend_health.into_iter().map(condition).collect()
}

/// Waits for the worst condition.
async fn is_worst(node: &Node, expected: Option<&str>) {
    until(&format!("{expected:?}"), async || conditions(node).await.first().map(String::as_str) == expected).await;
}

async fn readiness(node: &Node) -> String {
    let page = tcp(node, "/readyz").await;
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    format!("{} {body}", head.split(' ').nth(1).unwrap())
}

#[test]
fn an_agent_that_is_gone_is_a_condition_until_it_returns() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        is_worst(&node, Some("AgentDirectoryMissing!")).await;
        let agent = node.agent();
        is_worst(&node, None).await;
        drop(agent);
        is_worst(&node, Some("AgentSocketDead!")).await;
    });
}

#[test]
fn a_broker_that_is_gone_is_a_condition_and_leaves_the_driver_ready() {
    files_test(async |scene: Scene| {
        scene.registered("web").await;
        is_worst(&scene.node, None).await;
        assert_eq!(readiness(&scene.node).await, "200 ok");
        scene.agent.stop();
        is_worst(&scene.node, Some("BrokerNotConnected!")).await;
        assert_eq!(readiness(&scene.node).await, "200 ok");
    });
}

#[test]
fn the_driver_is_not_ready_before_its_source_has_answered() {
    prepared_test(&[FILES, SOCKET], async |mut scene| {
        scene.node.start().await;
        assert_eq!(
            readiness(&scene.node).await,
            "503 the driver has not reached the agent's Broker API since it started"
        );
        scene.agent.resume();
        until("the driver is ready", async || readiness(&scene.node).await == "200 ok").await;
    });
}

#[test]
fn a_driver_is_ready_when_the_kubelet_has_accepted_it() {
    test(async || {
        let mut node = Node::new(&[
            crate::fixture::FILES,
            &["--data-root={dir}/root", "--trust-domain=example.org", "--metrics-address=127.0.0.1:0"],
            &["--kubelet-registration-dir={dir}/kubelet/plugins_registry"],
            &["--kubelet-registration-path={dir}/csi.sock"],
        ]);
        node.start().await;
        let refused = "503 the kubelet has not accepted the registration of demo.svid-csi";
        assert_eq!(readiness(&node).await, refused);
        node.kubelet.register("demo.svid-csi", Duration::from_secs(30)).await.unwrap();
        until("the driver is ready", async || readiness(&node).await == "200 ok").await;
        let sockets = fs::read_dir(node.kubelet.registration_dir()).unwrap();
        sockets.for_each(|socket| fs::remove_file(socket.unwrap().path()).unwrap());
        until("the driver is not ready", async || readiness(&node).await == refused).await;
    });
}
