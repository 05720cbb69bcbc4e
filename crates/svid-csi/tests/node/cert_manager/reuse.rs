//! One live request per volume, whatever happens to the calls of the kubelet and to the responses of the API server.

use svid_csi_testkit::api_server::{Fault, Mode};
use tonic::Code;

use super::cluster::{REQUESTS, cluster_test};
use crate::fixture::{svid, until};

#[test]
fn the_request_survives_the_kubelets_calls() {
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
        // That call has ended. The kubelet retries, twice at once, with fresh tokens.
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
fn a_request_whose_response_was_lost_is_found_again() {
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
fn problems_of_the_api_server_are_not_a_verdict() {
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
fn a_refusing_webhook_is_quoted_and_the_request_retried() {
    cluster_test(&[], async |cluster| {
        let words = "no requests on Saturdays".to_owned();
        cluster.server.faults.next(1, "create", REQUESTS, Fault::Denied(words.clone()));
        let (code, message) = cluster.node.refused(&cluster.volume("web")).await;
        assert!(code == Code::PermissionDenied && message.contains(&words), "{code:?} {message}");
        cluster.node.publish(&cluster.volume("web")).await;
    });
}

#[test]
fn too_many_requests_are_retried_later() {
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
