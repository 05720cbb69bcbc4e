//! The continuation after a kill of the driver.

use svid_csi_testkit::api_server::Mode;

use super::cluster::{REQUESTS, cluster_test};
use crate::endpoints::renew_all;
use crate::fixture::{serial, svid, until};

#[test]
fn with_pods_tokens_it_waits_for_the_next_republish() {
    cluster_test(&[], async |mut cluster| {
        let volume = cluster.volume("web");
        let target = cluster.node.publish(&volume).await;
        let first = serial(&target);
        cluster.node.kill();
        cluster.start().await;
        renew_all(&cluster.node).await;
        let waits = async || cluster.status().await["waiting"][volume.id().as_str()].to_string().contains("republish");
        until("it says what it waits for", waits).await;
        assert!(
            cluster.metric("waiting_for_token").await >= 1.0
                || cluster.metric("volumes_waiting_for_token").await >= 1.0
        );
        assert_eq!((cluster.creates(), serial(&target)), (1, first.clone()), "{}", cluster.server.calls.log());
        cluster.node.publish(&cluster.volume("web")).await;
        until("it is renewed with the fresh token", async || serial(&target) != first).await;
        assert_eq!((cluster.creates(), cluster.node.mounts(&target)), (2, 1));
    });
}

#[test]
fn with_its_own_token_it_continues_at_once() {
    let more = ["--request-mode=node-bound", "--certificate-request-duration=10s"];
    cluster_test(&more, async |mut cluster| {
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let first = serial(&target);
        cluster.node.kill();
        cluster.start().await;
        until("it is renewed", async || serial(&target) != first).await;
        svid(&target).check_chain().unwrap();
        assert_eq!(cluster.node.mounts(&target), 1);
    });
}

#[test]
fn a_request_whose_key_is_lost_is_replaced() {
    cluster_test(&[], async |mut cluster| {
        cluster.server.cert_manager.mode(Mode::ByHand);
        let volume = cluster.volume("web");
        let lost = tokio::select! {
            (name, _) = cluster.pending("web") => name,
            target = cluster.node.publish(&volume) => panic!("published: {}", target.display()),
        };
        cluster.node.kill();
        cluster.server.cert_manager.mode(Mode::Issue(cluster.issuing()));
        cluster.start().await;
        let target = cluster.node.publish(&cluster.volume("web")).await;
        svid(&target).check_key().unwrap();
        let only = || cluster.server.cert_manager.requests().iter().all(|request| request.metadata.name != lost);
        cluster.until("the lost one is removed", || only().then_some(())).await;
        assert_eq!(cluster.creates(), 2, "{}", cluster.server.calls.log());
    });
}

#[test]
fn requests_of_the_previous_run_are_deleted_with_their_volume() {
    cluster_test(&[], async |mut cluster| {
        let volume = cluster.volume("web");
        cluster.node.publish(&volume).await;
        cluster.node.kill();
        cluster.start().await;
        cluster.node.unpublish(&volume).await;
        cluster.until("all is removed", || cluster.server.cert_manager.requests().is_empty().then_some(())).await;
        assert_eq!(cluster.server.calls.count("delete", REQUESTS), 1);
    });
}

#[test]
fn a_regular_shutdown_leaves_requests_and_volumes() {
    cluster_test(&[], async |mut cluster| {
        let target = cluster.node.publish(&cluster.volume("web")).await;
        cluster.node.terminate().await;
        assert_eq!(cluster.server.cert_manager.requests().len(), 1);
        svid(&target).check_chain().unwrap();
        cluster.start().await;
        cluster.node.publish(&cluster.volume("web")).await;
        assert_eq!(cluster.creates(), 1, "{}", cluster.server.calls.log());
    });
}
