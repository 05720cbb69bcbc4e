//! Without an API server: running pods are not affected, and new ones wait.

use std::fs;
use std::time::Duration;

use svid_csi_testkit::api_server::{Fault, Mode};
use tonic::Code;

use super::cluster::{REQUESTS, cluster_test, prepared_test};
use super::request_watch::lists;
use crate::endpoints::renew_all;
use crate::fixture::{serial, svid, until};

#[test]
fn a_driver_starts_without_it() {
    prepared_test(&[], async |mut cluster| {
        cluster.server.stop();
        cluster.node.start().await;
        let (code, message) = cluster.node.refused(&cluster.volume("web")).await;
        assert_eq!(code, Code::Unavailable, "{message}");
        assert!(message.contains("cannot be watched"), "{message}");
        cluster.server.resume();
        cluster.is_watching().await;
        svid(&cluster.node.publish(&cluster.volume("web")).await).check_chain().unwrap();
    });
}

#[test]
fn after_an_outage_pods_start_again_on_a_quiet_node() {
    cluster_test(&[], async |cluster| {
        for outage in ["broken", "away"] {
            if outage == "broken" {
                cluster.server.watches.break_all();
            } else {
                cluster.server.stop();
                let noticed = async || cluster.status().await["cert_manager_up"] == false;
                until("the driver notices", noticed).await;
                cluster.server.resume();
            }
            // Nothing happens on the node, so no event shows the driver that it is watching again.
            cluster.node.publish(&cluster.volume(outage)).await;
        }
        let up = async || cluster.status().await["cert_manager_up"] == true;
        until("the source is up again", up).await;
        assert_eq!(lists(&cluster), 1, "{}", cluster.server.calls.log());
    });
}

#[test]
fn running_pods_are_not_affected() {
    cluster_test(&[], async |mut cluster| {
        let (web, api) = (cluster.volume("web"), cluster.volume("api"));
        let target = cluster.node.publish(&web).await;
        cluster.node.publish(&api).await;
        let first = serial(&target);
        cluster.server.stop();
        for restarted in [false, true] {
            if restarted {
                cluster.node.kill();
                cluster.node.start().await;
            }
            assert_eq!(cluster.node.publish(&cluster.volume("web")).await, target, "a republish needs no API server");
            assert_eq!((serial(&target), cluster.node.mounts(&target)), (first.clone(), 1));
            let (code, message) = cluster.node.refused_within(&cluster.volume("new"), Duration::from_secs(2)).await;
            assert_eq!(code, Code::Unavailable, "{message}");
        }
        cluster.node.unpublish(&api).await;
        assert!(!cluster.node.kubelet.target(&api).exists(), "a pod can end");
        cluster.server.resume();
        cluster.is_watching().await;
        cluster.node.publish(&cluster.volume("new")).await;
        svid(&target).check_chain().unwrap();
    });
}

#[test]
fn renewals_delayed_by_an_outage_are_done_a_few_at_a_time() {
    let more = ["--request-mode=own", "--renewal-concurrency=2"];
    cluster_test(&more, async |cluster| {
        let volumes: Vec<_> = (0..12).map(|pod| cluster.volume(&format!("pod-{pod}"))).collect();
        let targets = futures::future::join_all(volumes.iter().map(|volume| cluster.node.publish(volume))).await;
        let before: Vec<_> = targets.iter().map(|target| serial(target)).collect();
        cluster.server.stop();
        renew_all(&cluster.node).await;
        let held_up = async || cluster.status().await["waiting"].as_object().is_some_and(|waiting| waiting.len() == 12);
        until("all wait", held_up).await;
        let manager = &cluster.server.cert_manager;
        manager.mode(Mode::ByHand);
        manager.forget_peak();
        cluster.server.resume();
        for _ in &volumes {
            let request = cluster.until("a renewal", || manager.pending().into_iter().next()).await;
            assert!(manager.sign(&request.metadata.name, &cluster.issuing()));
        }
        let all = async || targets.iter().zip(&before).all(|(target, before)| serial(target) != *before);
        until("all are renewed", all).await;
        assert!(manager.peak_pending() <= 2, "{}", cluster.server.calls.log());
        for target in &targets {
            svid(target).check_chain().unwrap();
        }
    });
}

/// Its lock is held by the publish, which waits for the API server.
#[test]
fn a_pod_can_end_while_its_first_publish_waits_for_an_api_server_that_hangs() {
    cluster_test(&[], async |cluster| {
        let web = cluster.volume("web");
        cluster.server.faults.always("create", REQUESTS, Fault::Hang);
        let publish = cluster.node.publish_within(&web, Duration::from_secs(10));
        let end = async {
            cluster.until("the request", || (cluster.creates() > 0).then_some(())).await;
            cluster.node.unpublish(&web).await;
        };
        let (published, ()) = tokio::join!(publish, end);
        published.unwrap_err();
        assert!(!cluster.node.kubelet.target(&web).exists());
        assert_eq!(fs::read_dir(cluster.node.path("root/records")).unwrap().count(), 0);
        let (code, message) = cluster.node.refused_within(&cluster.volume("new"), Duration::from_secs(2)).await;
        assert_eq!(code, Code::Unavailable, "{message}");
    });
}
