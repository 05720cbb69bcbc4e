//! The file system of the agent's directory hangs.

use std::time::Duration;

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::HangingFs;
use tonic::Code;

use crate::endpoints::{get, tcp};
use crate::fixture::{Node, PASSTHROUGH, test, until, volume};

const ALSO_FILES: &[&str] = &[
    "--data-root={dir}/root",
    "--allow-plan=local-ca:files",
    "--allow-missing-read-only",
    "--trust-domain=example.org",
    "--admin-socket={dir}/admin.sock",
    "--metrics-address=127.0.0.1:0",
];
/// More than the driver has threads for system calls.
const MANY: usize = 6;
const SOON: Duration = Duration::from_secs(20);

fn files(pod: &str) -> InlineVolume {
    volume(pod).attribute("svid-csi/source", "local-ca").attribute("svid-csi/delivery", "files")
}

/// Other volumes are published and unpublished, and the pages answer.
async fn serves_others(node: &Node, published: &InlineVolume) {
    let (other, long) = (files("other"), Duration::from_secs(110));
    node.publish_within(&other, long).await.unwrap();
    for volume in [&other, published] {
        tokio::time::timeout(long, node.unpublish(volume)).await.expect("it is unpublished");
    }
    assert!(tcp(node, "/livez").await.starts_with("HTTP/1.1 200"), "{}", tcp(node, "/livez").await);
    for page in ["/status", "/facts", "/metrics"] {
        assert!(get(node, page).await.starts_with("HTTP/1.1 200"), "{page}");
    }
}

#[test]
fn a_driver_starts_and_serves_others_while_the_agents_file_system_hangs() {
    test(async || {
        let mut node = Node::new(&[PASSTHROUGH, ALSO_FILES]);
        let _agent = node.agent();
        node.start().await;
        let (web, own, api) = (volume("web"), InlineVolume { read_only: false, ..volume("own") }, files("api"));
        for volume in [&web, &own, &api] {
            node.publish(volume).await;
        }
        node.terminate().await;

        let hangs = HangingFs::over(&node.path("run"));
        node.start().await;
        assert!(node.log().contains("the agent's directory is not known yet"), "{}", node.log());
        serves_others(&node, &api).await;
        let (code, message) = node.refused_within(&volume("new"), SOON).await;
        assert!(code == Code::Unavailable && message.contains("does not answer"), "{code:?}: {message}");
        let trouble = node.trouble(&web).await.unwrap();
        assert!(trouble.contains("does not answer"), "{trouble}");

        drop(hangs);
        until("the agent is reached again", async || node.trouble(&web).await.is_none()).await;
        node.publish_within(&volume("new"), SOON).await.unwrap();
        assert_eq!(node.trouble(&volume("new")).await, None);
        for volume in [&web, &own] {
            node.unpublish(volume).await;
        }
    });
}

#[test]
fn calls_on_a_hanging_file_system_of_the_agent_take_up_one_thread() {
    test(async || {
        let mut node = Node::new(&[PASSTHROUGH, ALSO_FILES]);
        let _agent = node.agent();
        node.start().await;
        let passed: Vec<_> = (0..MANY)
            .map(|number| InlineVolume { read_only: number % 2 == 0, ..volume(&format!("web-{number}")) })
            .collect();
        let api = files("api");
        for volume in passed.iter().chain([&api]) {
            node.publish(volume).await;
        }
        let hangs = HangingFs::over(&node.path("run"));
        let plugin = node.plugin().await;
        let unpublish = |volume| tokio::time::timeout(SOON, node.kubelet.unpublish(&plugin, volume));
        let unpublished = futures::future::join_all(passed.iter().map(unpublish));
        let new: Vec<_> = (0..MANY).map(|number| volume(&format!("new-{number}"))).collect();
        let published = futures::future::join_all(new.iter().map(|volume| node.publish_within(volume, SOON)));
        let (_, published) = tokio::join!(unpublished, published);
        assert!(published.iter().all(Result::is_err));
        serves_others(&node, &api).await;
        // A thread that hangs does not keep the process.
        node.terminate().await;
        drop(hangs);
        node.start().await;
        for volume in &passed {
            node.unpublish(volume).await;
        }
    });
}
