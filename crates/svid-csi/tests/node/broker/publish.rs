//! The identity of a starting pod.

use std::fs;
use std::time::Duration;

use svid_csi_testkit::agent::{Answer, Entry};
use tonic::{Code, Status};

use super::scene::{FILES, SOCKET, Scene, WORKLOAD_API, files_test, id, names, prepared_test, scene_test};
use crate::fixture::{pod, svid, test, volume};

/// Long enough for every success.
const SHORT: Duration = Duration::from_secs(5);
/// Long enough for the driver to know why there is no identity. Only for calls that must fail.
const SHORTER: Duration = Duration::from_millis(1500);

#[test]
fn a_registered_pod_gets_its_identity() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let svid = svid(&target);
        svid.check_chain().unwrap();
        assert_eq!(svid.leaf().unwrap().spiffe_id, id("web"));
        let [call] = &scene.subscriptions("web")[..] else { panic!("{:?}", scene.agent.calls()) };
        assert_eq!((&*call.pod, &*call.uid), ("shop/web", "uid-of-web"), "both name and UID are sent");
        assert_eq!(call.caller, svid_csi_testkit::agent::DRIVER);
    });
}

#[test]
fn volumes_of_a_pod_share_a_subscription() {
    files_test(async |scene| {
        scene.registered("web").await;
        let mut second = volume("web");
        second.name = "second".to_owned();
        let target = scene.node.publish(&second).await;
        assert_eq!(svid(&target).leaf().unwrap().spiffe_id, id("web"));
        assert_eq!(scene.subscriptions("web").len(), 1);
        scene.node.unpublish(&volume("web")).await;
        assert_eq!(scene.agent.subscriptions().now, 2, "the driver's own, and the pod's");
        scene.node.unpublish(&second).await;
        scene.until("the pod's subscription ends", || (scene.agent.subscriptions().now == 1).then_some(())).await;
    });
}

#[test]
fn an_attempt_that_was_not_recorded_leaves_no_subscription() {
    scene_test(&[FILES, SOCKET, &["--allow-plan=socket:socket-dir"]], async |scene| {
        let passthrough =
            volume("web").attribute("svid-csi/source", "socket").attribute("svid-csi/delivery", "socket-dir");
        scene.node.publish(&passthrough).await;
        // Without an entry, its record still says passthrough.
        scene.node.publish_within(&volume("web"), SHORTER).await.unwrap_err();
        assert_eq!(scene.agent.subscriptions().now, 2, "the driver's own, and the pod's");
        scene.node.unpublish(&passthrough).await;
        scene.until("the pod's subscription ends", || (scene.agent.subscriptions().now == 1).then_some(())).await;
    });
}

#[test]
fn the_driver_starts_before_the_agent() {
    test(async || {
        for (delivery, shown) in [(FILES, "tls.crt"), (WORKLOAD_API, "agent.sock")] {
            let mut scene = Scene::prepared(&[delivery, SOCKET]);
            scene.node.start().await;
            let status = scene.status().await;
            assert_eq!(status["broker_up"], false, "{status}");
            let refused = scene.node.publish_within(&volume("web"), SHORTER).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unavailable);
            assert!(refused.message().contains("the driver's own identity"), "{}", refused.message());
            assert!(refused.message().contains("/run/agent"), "{}", refused.message());
            scene.agent.resume();
            let target = scene.registered("web").await;
            assert!(names(&target).contains(&shown.to_owned()), "{:?}", names(&target));
            assert_eq!(scene.status().await["broker_up"], true);
        }
    });
}

#[test]
fn a_later_entry_is_waited_for() {
    files_test(async |scene| {
        let volume = volume("web");
        let (target, ()) = tokio::join!(scene.node.publish(&volume), async {
            scene.until("the subscription", || (scene.subscriptions("web").len() == 1).then_some(())).await;
            let status = scene.status().await;
            let waits_for = status["waiting"][volume.id().to_string()].as_str().unwrap().to_owned();
            assert!(waits_for.contains("entry") || waits_for.contains("answer"), "{waits_for}");
            scene.register("web");
        });
        assert_eq!(svid(&target).leaf().unwrap().spiffe_id, id("web"));
        assert_eq!(scene.subscriptions("web").len(), 1, "the stream stays open meanwhile");
    });
}

#[test]
fn without_an_entry_the_error_names_the_selectors() {
    files_test(async |scene| {
        let refused = scene.node.publish_within(&volume("web"), SHORTER).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "the kubelet asks again");
        for selector in ["k8s:ns:shop", "k8s:sa:web", "k8s:pod-name:web", "k8s:pod-uid:uid-of-web"] {
            assert!(refused.message().contains(selector), "{selector} in {}", refused.message());
        }
        assert!(names(&scene.node.kubelet.target(&volume("web"))).is_empty(), "nothing is mounted");
        scene.registered("web").await;
    });
}

#[test]
fn a_denied_pod_fails_at_once_and_starts_when_allowed() {
    files_test(async |scene| {
        let denied = Status::permission_denied("not allowed to impersonate-via-spire");
        scene.agent.respond(&pod("web"), Answer::Refused(denied));
        let (code, message) = scene.node.refused(&volume("web")).await;
        assert_eq!(code, Code::PermissionDenied);
        assert!(message.contains("not allowed to impersonate-via-spire"), "{message}");
        scene.register("web");
        crate::fixture::until("the pod is allowed", async || {
            scene.node.publish_within(&volume("web"), SHORT).await.is_ok()
        })
        .await;
    });
}

#[test]
fn a_pod_that_the_agent_does_not_find_yet_is_requested_again() {
    files_test(async |scene| {
        scene.agent.respond(
            &pod("web"),
            Answer::Refused(Status::not_found("pod with UID uid-of-web not found on agent node")),
        );
        let volume = volume("web");
        let (target, ()) = tokio::join!(scene.node.publish(&volume), async {
            scene.until("it is asked again", || (scene.subscriptions("web").len() >= 3).then_some(())).await;
            scene.register("web");
        });
        assert_eq!(svid(&target).leaf().unwrap().spiffe_id, id("web"));
    });
}

#[test]
fn an_unsupported_call_is_never_repeated() {
    files_test(async |scene| {
        scene.register("web");
        scene.agent.refuse(Some(Status::invalid_argument("unsupported reference type")));
        for _ in 0..2 {
            let (code, message) = scene.node.refused(&volume("web")).await;
            assert_eq!(code, Code::FailedPrecondition);
            assert!(message.contains("unsupported reference type"), "{message}");
        }
        scene.agent.rotate_own();
        scene.until("a new connection", || (scene.agent.connections().ever == 2).then_some(())).await;
        let other = scene.node.refused(&volume("other")).await;
        assert_eq!(other.0, Code::FailedPrecondition);
        assert_eq!(scene.subscriptions("web").len(), 1, "not by the kubelet's retries, nor on another connection");

        scene.agent.refuse(None);
        scene.agent.restart();
        let published = async || scene.node.publish_within(&volume("web"), SHORT).await.is_ok();
        crate::fixture::until("another agent is asked", published).await;
    });
}

#[test]
fn a_hint_selects_one_of_several() {
    files_test(async |scene| {
        let entries = [Entry::new(&id("web")), Entry::new(&id("web-internal")).hint("internal")];
        scene.agent.register(&pod("web"), &entries);
        let (refused, message) = scene.node.refused(&volume("web").attribute("svid-csi/hint", "external")).await;
        assert_eq!(refused, Code::FailedPrecondition);
        assert!(message.contains("external") && message.contains("internal"), "{message}");
        let target = scene.node.publish(&volume("web").attribute("svid-csi/hint", "internal")).await;
        assert_eq!(svid(&target).leaf().unwrap().spiffe_id, id("web-internal"));
        let before = fs::read_link(target.join("..data")).unwrap();
        scene.agent.repeat(&pod("web"));
        scene.agent.register(&pod("web"), &entries[1..]);
        crate::fixture::until("the rotation", async || fs::read_link(target.join("..data")).unwrap() != before).await;
        assert_eq!(svid(&target).leaf().unwrap().spiffe_id, id("web-internal"));
        scene.agent.register(&pod("web"), &entries[..1]);
        crate::fixture::until("the one with that hint is withdrawn", async || names(&target).is_empty()).await;
    });
}

#[test]
fn tcp_also_works() {
    prepared_test(&[FILES], async |mut scene| {
        scene.agent.resume();
        let address = format!("--broker-address={}", scene.agent.broker_address());
        scene.node.add_args(&[&address]);
        scene.node.start().await;
        let target = scene.registered("web").await;
        svid(&target).check_chain().unwrap();
    });
}

#[test]
fn the_environment_variable_sets_the_broker() {
    scene_test(&[FILES, SOCKET], async |mut scene| {
        scene.node.kill();
        scene.node.drop_arg("--broker-socket");
        let socket = format!("unix://{}", scene.node.path("run/broker/api.sock").display());
        scene.node.variable("SPIFFE_BROKER_SOCKET", &socket);
        scene.node.start().await;
        scene.registered("web").await;
    });
}
