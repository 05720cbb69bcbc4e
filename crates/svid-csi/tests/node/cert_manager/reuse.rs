//! One live request a volume, whatever happens to the calls of the kubelet and to the answers of the API server.

use svid_csi_testkit::api_server::{Fault, Mode};
use tonic::Code;

use super::cluster::{REQUESTS, cluster_test};
use crate::fixture::{svid, until};

#[test]
fn calls_of_the_kubelet_come_and_go_and_the_request_stays() {
    cluster_test(&[], async |cluster| {
        cluster.server.cert_manager.mode(Mode::ByHand);
        let volume = cluster.volume("web");
        let waits = async || {
            let (name, _) = cluster.pending("web").await;
            let waits = async || cluster.status().await["waiting"].to_string().contains(&name);
            until("the call waits for its request", waits).await;
            name
        };
        let name = tokio::select! {
            name = waits() => name,
            target = cluster.node.publish(&volume) => panic!("published: {}", target.display()),
        };
        // That call is gone. The kubelet asks again, twice at once, with fresh tokens.
        let (second, third) = (cluster.volume("web"), cluster.volume("web"));
        let sign = async {
            waits().await;
            assert!(cluster.server.cert_manager.sign(&name, &cluster.issuing()));
        };
        let (target, again, ()) = tokio::join!(cluster.node.publish(&second), cluster.node.publish(&third), sign);
        assert_eq!(target, again);
        svid(&target).check_chain().unwrap();
        assert_eq!((cluster.creates(), cluster.node.mounts(&target)), (1, 1), "{}", cluster.server.calls.log());
    });
}

#[test]
fn a_request_whose_answer_was_lost_is_found_again() {
    cluster_test(&[], async |cluster| {
        cluster.server.faults.next(1, "create", REQUESTS, Fault::LoseAnswer);
        let plugin = cluster.node.plugin().await;
        let within = std::time::Duration::from_secs(120);
        let target = cluster.node.kubelet.publish_within(&plugin, &cluster.volume("web"), within).await.unwrap();
        svid(&target).check_chain().unwrap();
        assert_eq!(cluster.server.cert_manager.requests().len(), 1, "{}", cluster.server.calls.log());
    });
}

#[test]
fn trouble_of_the_api_server_is_no_verdict() {
    cluster_test(&[], async |cluster| {
        for fault in [Fault::InternalError, Fault::Drop] {
            cluster.server.faults.always("create", REQUESTS, fault.clone());
            let (code, message) = cluster.node.refused(&cluster.volume("web")).await;
            assert_eq!(code, Code::Unavailable, "{fault:?}: {message}");
            cluster.server.faults.clear();
        }
        cluster.node.publish(&cluster.volume("web")).await;
        assert_eq!(cluster.server.cert_manager.requests().len(), 1, "{}", cluster.server.calls.log());
    });
}

#[test]
fn a_webhook_that_refuses_is_quoted_and_asked_again() {
    cluster_test(&[], async |cluster| {
        let words = "no requests on Saturdays".to_owned();
        cluster.server.faults.next(1, "create", REQUESTS, Fault::Denied(words.clone()));
        let (code, message) = cluster.node.refused(&cluster.volume("web")).await;
        assert!(code == Code::PermissionDenied && message.contains(&words), "{code:?} {message}");
        cluster.node.publish(&cluster.volume("web")).await;
    });
}

#[test]
fn too_many_requests_are_made_later() {
    cluster_test(&[], async |cluster| {
        cluster.server.faults.next(2, "create", REQUESTS, Fault::TooManyRequests(1));
        let plugin = cluster.node.plugin().await;
        let within = std::time::Duration::from_secs(120);
        cluster.node.kubelet.publish_within(&plugin, &cluster.volume("web"), within).await.unwrap();
        let calls = cluster.server.calls.of("create", REQUESTS);
        assert!(
            calls.windows(2).all(|pair| pair[1].at - pair[0].at >= std::time::Duration::from_millis(900)),
            "{calls:?}"
        );
    });
}
