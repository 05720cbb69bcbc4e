//! Agents and drivers that stop and return.

use std::fs;
use std::time::Duration;

use svid_csi_testkit::agent::{Answer, Entry};
use tonic::Status;

use super::scene::{FILES, SOCKET, Scene, WORKLOAD_API, files_test, id, scene_test};
use crate::endpoints::renew_all;
use crate::fixture::{pod, serial, svid, test, until, volume};
use crate::workload_api::client::Svids;

/// Waits until the driver follows that many pods again, in addition to its own identity.
async fn following(scene: &Scene, pods: usize) {
    scene.until("the subscriptions", || (scene.agent.subscriptions().now == 1 + pods).then_some(())).await;
}

#[test]
fn a_restart_of_the_agent_keeps_all_identities() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let first = serial(&target);
        scene.agent.stop();
        until("the driver notices", async || scene.metric("source_up").await == 0.0).await;
        let waiting = scene.status().await["waiting"][volume("web").id().to_string()].to_string();
        assert!(waiting.contains("Broker API"), "{waiting}");
        assert_eq!((serial(&target), scene.node.trouble(&volume("web")).await), (first.clone(), None));
        // It answers at once if it has an identity, whether the agent runs or not.
        scene.node.publish(&volume("web")).await;
        scene.agent.resume();
        following(&scene, 1).await;
        assert_eq!(scene.issued(), 1, "{}", scene.node.log());
        scene.agent.rotate(&pod("web"));
        until("the rotation", async || serial(&target) != first).await;
    });
}

#[test]
fn every_outage_is_logged() {
    files_test(async |scene| {
        scene.registered("web").await;
        let times_logged = || scene.node.log().matches("pods keep their identities").count();
        for connections in 2..5 {
            let before = times_logged();
            scene.agent.restart();
            until("it is logged", async || times_logged() > before).await;
            scene.until("a connection", || (scene.agent.connections().ever >= connections).then_some(())).await;
            following(&scene, 1).await;
        }
    });
}

#[test]
fn an_agent_whose_directory_is_created_again_is_found() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let first = serial(&target);
        scene.agent.stop();
        for folder in ["run/agent", "run/broker"] {
            fs::remove_dir_all(scene.node.path(folder)).unwrap();
        }
        until("the driver notices", async || scene.metric("source_up").await == 0.0).await;
        scene.agent.resume();
        following(&scene, 1).await;
        scene.agent.rotate_all();
        until("the rotation", async || serial(&target) != first).await;
    });
}

#[test]
fn a_new_svid_of_the_driver_causes_no_gap() {
    scene_test(&[WORKLOAD_API, SOCKET], async |scene| {
        let pods = ["web", "db", "api"];
        let mut streams = Vec::new();
        for pod in pods {
            let target = scene.registered(pod).await;
            let mut svids = Svids::open(&target.join("agent.sock")).await.unwrap();
            svids.next().await.unwrap();
            streams.push(svids);
        }
        scene.agent.rotate_own();
        scene.until("a second connection", || (scene.agent.connections().ever == 2).then_some(())).await;
        // Until all subscriptions have moved, each at its own time.
        for (name, svids) in pods.into_iter().zip(&mut streams) {
            scene.agent.rotate(&pod(name));
            assert_eq!(svids.next().await.unwrap(), scene.agent.response(&pod(name)));
            assert!(scene.agent.subscriptions().now > pods.len(), "the older stream ends after the newer has begun");
        }
        scene.until("the older connection ends", || (scene.agent.connections().now == 1).then_some(())).await;
        following(&scene, pods.len()).await;
        for (name, svids) in pods.into_iter().zip(&mut streams) {
            let mut connections: Vec<_> = scene.subscriptions(name).iter().map(|call| call.connection).collect();
            // A message on the older connection may come during a call on the newer one, which is then repeated.
            connections.dedup();
            assert_eq!(connections, [1, 2]);
            scene.agent.rotate(&pod(name));
            assert_eq!(svids.next().await.unwrap(), scene.agent.response(&pod(name)));
        }
        assert!(!scene.node.log().contains("pods keep their identities"), "{}", scene.node.log());
    });
}

#[test]
fn a_connection_that_fails_keeps_the_older_one() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let first = serial(&target);
        scene.agent.server(svid_csi_testkit::agent::Server::OtherTrustDomain);
        scene.agent.rotate_own();
        until("it fails", async || scene.node.log().contains("other.example")).await;
        assert_eq!(scene.status().await["broker_up"], true);
        scene.agent.rotate(&pod("web"));
        until("the rotation comes over the older one", async || serial(&target) != first).await;
        scene.agent.server(svid_csi_testkit::agent::Server::Proper);
        scene.until("it succeeds", || (scene.agent.connections().ever == 2).then_some(())).await;
    });
}

#[test]
fn a_killed_driver_serves_the_same_again_and_continues() {
    test(async || {
        for delivery in [FILES, WORKLOAD_API] {
            let mut scene = Scene::running(&[delivery, SOCKET]).await;
            let target = scene.registered("web").await;
            let shown = || fs::read_link(target.join("..data")).ok();
            let before = shown();
            scene.node.kill();
            scene.until("its connections end", || (scene.agent.connections().now == 0).then_some(())).await;
            scene.node.start().await;
            following(&scene, 1).await;
            scene.node.publish(&volume("web")).await;
            assert_eq!((scene.issued(), shown(), scene.node.mounts(&target)), (1, before, 1));
            scene.agent.rotate(&pod("web"));
            until("the rotation", async || scene.issued() == 2).await;
            if delivery == WORKLOAD_API {
                let message = Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
                assert_eq!(message, scene.agent.response(&pod("web")));
            }
        }
    });
}

#[test]
fn a_driver_that_starts_without_the_agent_serves_what_pods_have() {
    files_test(async |mut scene| {
        let target = scene.registered("web").await;
        let first = serial(&target);
        scene.node.kill();
        scene.agent.stop();
        scene.node.start().await;
        scene.node.publish(&volume("web")).await;
        svid(&target).check_chain().unwrap();
        assert_eq!((serial(&target), scene.issued()), (first.clone(), 1));
        scene.agent.resume();
        following(&scene, 1).await;
        scene.agent.rotate(&pod("web"));
        until("the rotation", async || serial(&target) != first).await;
    });
}

#[test]
fn an_unknown_driver_requests_its_identity_again() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let asked = || scene.agent.calls_of("FetchX509SVID").len();
        let (before, connections) = (asked(), scene.agent.connections().ever);
        scene.agent.refuse(Some(Status::unauthenticated("your certificate was revoked")));
        scene.agent.respond(&pod("web"), Answer::Refused(Status::unavailable("for a moment")));
        scene.until("it asks for its own identity", || (asked() > before).then_some(())).await;
        scene.until("it shows that", || (scene.agent.connections().ever > connections).then_some(())).await;
        svid(&target).check_chain().unwrap();
        assert_eq!(scene.issued(), 1);
        scene.agent.refuse(None);
        scene.register("web");
        until("it is known again", async || scene.issued() == 2).await;
        assert!(scene.agent.connections().ever < connections + 20, "it does not hurry");
    });
}

#[test]
fn a_driver_that_is_no_longer_registered_keeps_all_identities() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        scene.agent.respond_to_driver(Answer::Refused(Status::permission_denied("no identity issued")));
        until("the driver gives up its connection", async || scene.metric("source_up").await == 0.0).await;
        scene.until("it is closed", || (scene.agent.connections().now == 0).then_some(())).await;
        svid(&target).check_chain().unwrap();
        let refused = scene.node.publish_within(&volume("db"), Duration::from_secs(3)).await.unwrap_err();
        assert!(refused.message().contains("register one for the driver's own pod"), "{}", refused.message());
        scene.agent.own(&[Entry::new(svid_csi_testkit::agent::DRIVER)]);
        scene.agent.register(&pod("db"), &[Entry::new(&id("db"))]);
        scene.node.publish(&volume("db")).await;
    });
}

#[test]
fn a_renewal_takes_the_current_identity_of_the_agent() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let first = serial(&target);
        assert!(renew_all(&scene.node).await.contains("{\"renewing\":1}"));
        scene.agent.rotate(&pod("web"));
        until("the rotation", async || serial(&target) != first).await;
        // The audit line is written after the files.
        until("it is reported", async || scene.issued() >= 2).await;
        assert_eq!(scene.issued(), 2);
    });
}
