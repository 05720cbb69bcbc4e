//! A withdrawn identity is removed at once; one that cannot be requested stays.

use std::fs;

use futures::future::join_all;
use svid_csi_proto::workload::X509svidResponse;
use svid_csi_testkit::agent::Answer;
use tonic::{Code, Status};

use super::scene::{FILES, SOCKET, Scene, files_test, id, names, scene_test, workload_api_test};
use crate::endpoints::{metric, renew_all};
use crate::fixture::{pod, serial, svid, until, volume};
use crate::workload_api::client::Svids;

#[test]
fn files_are_removed_and_delivered_again() {
    files_test(async |scene| {
        let (target, other) = (scene.registered("web").await, scene.registered("db").await);
        let first = serial(&target);
        let denial = Answer::Refused(Status::permission_denied("the policy was changed"));
        for answer in [Answer::Svids(X509svidResponse::default()), denial] {
            scene.agent.respond(&pod("web"), answer);
            until("the volume is empty", async || names(&target).is_empty()).await;
            let status = scene.status().await;
            let of_web = &status["volumes"][volume("web").id().to_string()];
            assert_eq!((&of_web["serial"], &of_web["phase"]), (&serde_json::Value::Null, &"ready".into()), "{status}");
            let trouble = scene.node.trouble(&volume("web")).await.unwrap();
            assert!(trouble.contains("its source withdrew it"), "{trouble}");
            scene.register("web");
            until("the volume is filled again", async || target.join("tls.key").exists()).await;
            let status = scene.status().await;
            assert_eq!(status["volumes"][volume("web").id().to_string()]["spiffe_id"], id("web"));
            assert_ne!(serial(&target), first);
            assert_eq!(scene.node.trouble(&volume("web")).await, None);
        }
        assert_eq!(svid(&other).leaf().unwrap().spiffe_id, id("db"), "no other pod is touched");
        assert_eq!(scene.node.mounts(&target), 1);
        scene.node.unpublish(&volume("web")).await;
    });
}

#[test]
fn files_are_removed_even_while_a_failed_delivery_waits_for_its_retry() {
    scene_test(&[FILES, SOCKET, &["--data-size-limit=1Mi"]], async |scene| {
        let target = scene.registered("web").await;
        let _ = fs::write(scene.node.path("root/data/filler"), vec![0; 2 << 20]);
        scene.agent.rotate(&pod("web"));
        // The next retry is minutes away.
        for failures in 1..=4 {
            let failed = Some(f64::from(failures));
            until("it fails", async || metric(&scene.node, "renewal_failures_total").await == failed).await;
            if failures < 4 {
                renew_all(&scene.node).await;
            }
        }
        scene.agent.withdraw(&pod("web"));
        until("the volume is empty", async || names(&target).is_empty()).await;
    });
}

#[test]
fn sockets_and_streams_end_and_return() {
    workload_api_test(async |scene| {
        let (target, other) = (scene.registered("web").await, scene.registered("db").await);
        let socket = target.join("agent.sock");
        let (mut svids, mut others) =
            (Svids::open(&socket).await.unwrap(), Svids::open(&other.join("agent.sock")).await.unwrap());
        let first = svids.next().await.unwrap();
        others.next().await.unwrap();
        scene.agent.withdraw(&pod("web"));
        assert_eq!(svids.next().await.unwrap_err().code(), Code::PermissionDenied);
        until("the sockets are removed", async || names(&target).is_empty()).await;
        assert_eq!(fs::read_dir(scene.node.path("root/data/kept")).unwrap().count(), 1, "nothing is kept of it");
        scene.register("web");
        until("the sockets are back", async || socket.exists()).await;
        let again = Svids::open(&socket).await.unwrap().next().await.unwrap();
        assert_ne!(first.svids[0].x509_svid, again.svids[0].x509_svid);
        scene.agent.rotate(&pod("db"));
        others.next().await.unwrap();
    });
}

#[test]
fn an_identity_withdrawn_while_the_driver_was_down_is_removed_at_startup() {
    files_test(async |mut scene| {
        let (target, other) = (scene.registered("web").await, scene.registered("db").await);
        let kept = serial(&other);
        scene.node.kill();
        scene.agent.withdraw(&pod("web"));
        scene.node.start().await;
        until("the volume is empty", async || names(&target).is_empty()).await;
        assert_eq!(serial(&other), kept);
        scene.register("web");
        until("the volume is filled again", async || target.join("tls.key").exists()).await;
    });
}

/// Refuses a running pod with that status, and checks that the pod keeps its identity and that the next one arrives.
async fn keeps_its_identity(scene: &Scene, web: String, status: Status) {
    let target = scene.registered(&web).await;
    let (code, before, asked) = (status.code(), serial(&target), scene.subscriptions(&web).len());
    scene.agent.respond(&pod(&web), Answer::Refused(status));
    scene.until("it is asked again", || (scene.subscriptions(&web).len() >= asked + 2).then_some(())).await;
    assert_eq!(serial(&target), before, "{code:?}");
    assert_eq!(scene.node.trouble(&volume(&web)).await, None, "{code:?}");
    scene.register(&web);
    until("it continues", async || serial(&target) != before).await;
}

#[test]
fn an_identity_that_cannot_be_requested_stays() {
    files_test(async |scene| {
        let refusals = [
            Status::unavailable("shedding load"),
            Status::not_found("pod not found on agent node"),
            Status::internal("oops"),
            Status::resource_exhausted("too much"),
        ];
        // Each of a different pod, because a pod that was refused a few times is requested less often.
        let refusals = refusals.into_iter().enumerate();
        let kept = refusals.map(|(number, status)| keeps_its_identity(&scene, format!("web-{number}"), status));
        join_all(kept).await;
        // Not with the others, because it ends the connection that all pods share, and they are requested again.
        keeps_its_identity(&scene, "web".to_owned(), Status::unauthenticated("who are you?")).await;
    });
}

#[test]
fn the_same_identity_returns_after_a_withdrawal_that_could_not_be_recorded() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let same = scene.agent.response(&pod("web"));
        let obstacle = scene.node.path(&format!("root/records/.{}.json.new", volume("web").id()));
        fs::create_dir_all(obstacle.join("x")).unwrap();
        scene.agent.withdraw(&pod("web"));
        until("the volume is empty", async || names(&target).is_empty()).await;
        until("it fails", async || metric(&scene.node, "renewal_failures_total").await > Some(0.0)).await;
        scene.agent.respond(&pod("web"), Answer::Svids(same));
        until("the volume is filled again", async || {
            renew_all(&scene.node).await;
            target.join("tls.key").exists()
        })
        .await;
    });
}

#[test]
fn what_comes_back_and_cannot_be_recorded_goes_too() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        scene.agent.withdraw(&pod("web"));
        until("the volume is empty", async || names(&target).is_empty()).await;
        let obstacle = scene.node.path(&format!("root/records/.{}.json.new", volume("web").id()));
        fs::create_dir_all(obstacle.join("x")).unwrap();
        scene.register("web");
        until("it fails", async || metric(&scene.node, "renewal_failures_total").await > Some(0.0)).await;
        scene.agent.withdraw(&pod("web"));
        until("the volume is empty again", async || names(&target).is_empty()).await;
        fs::remove_dir_all(&obstacle).unwrap();
        scene.register("web");
        until("the volume is filled again", async || target.join("tls.key").exists()).await;
    });
}
