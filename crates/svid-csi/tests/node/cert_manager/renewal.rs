//! Renewal: in time, a few at once, and without losing the last identity.

use std::fs;
use std::time::Duration;

use svid_csi_testkit::api_server::Mode;

use super::cluster::{Cluster, cluster_test};
use crate::endpoints::renew_all;
use crate::fixture::{serial, svid, until};

const OWN: &str = "--request-mode=own";

#[test]
fn no_more_than_the_limit_are_renewed_at_once() {
    let more = ["--renewal-concurrency=3", OWN];
    cluster_test(&more, async |cluster| {
        let volumes: Vec<_> = (0..20).map(|pod| cluster.volume(&format!("pod-{pod}"))).collect();
        let targets = futures::future::join_all(volumes.iter().map(|volume| cluster.node.publish(volume))).await;
        let before: Vec<_> = targets.iter().map(|target| serial(target)).collect();
        let manager = &cluster.server.cert_manager;
        manager.mode(Mode::ByHand);
        manager.forget_peak();
        renew_all(&cluster.node).await;
        let full = || (manager.pending().len() == 3).then_some(());
        cluster.until("three renewals", full).await;
        for _ in 0..20 {
            let request = cluster.until("a renewal", || manager.pending().into_iter().next()).await;
            assert!(manager.sign(&request.metadata.name, &cluster.issuing()));
        }
        let all = async || targets.iter().zip(&before).all(|(target, before)| serial(target) != *before);
        until("all are renewed", all).await;
        assert_eq!((manager.peak_pending(), cluster.creates()), (3, 40), "{}", cluster.server.calls.log());
        cluster.until("the old requests are removed", || (manager.requests().len() == 20).then_some(())).await;
    });
}

#[test]
fn starting_pods_go_ahead_of_renewals() {
    cluster_test(&["--renewal-concurrency=1", OWN], async |cluster| {
        let manager = &cluster.server.cert_manager;
        for pod in ["a", "b"] {
            cluster.node.publish(&cluster.volume(pod)).await;
        }
        manager.mode(Mode::ByHand);
        renew_all(&cluster.node).await;
        cluster.until("one renewal", || (manager.pending().len() == 1).then_some(())).await;
        let waits = async || cluster.status().await["waiting"].to_string().contains("renewal-concurrency");
        until("the other one waits, and says for what", waits).await;
        let new = cluster.volume("new");
        let sign = async {
            let (name, _) = cluster.pending("new").await;
            assert!(manager.sign(&name, &cluster.issuing()));
        };
        tokio::join!(cluster.node.publish(&new), sign);
    });
}

#[test]
fn a_renewal_is_in_time_with_a_new_key_and_one_request_stays() {
    let more = [OWN, "--certificate-request-duration=12s"];
    cluster_test(&more, async |cluster| {
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let (first, key) = (serial(&target), fs::read(target.join("tls.key")).unwrap());
        until("it is renewed", async || {
            svid(&target).check_chain().expect("valid at every moment");
            serial(&target) != first
        })
        .await;
        assert_ne!(fs::read(target.join("tls.key")).unwrap(), key);
        let manager = &cluster.server.cert_manager;
        cluster.until("the old request is removed", || (manager.of_pod("web").len() == 1).then_some(())).await;
    });
}

/// A pod whose certificate has that lifetime, and whose renewals fail.
async fn failing(cluster: &Cluster, lifetime: Duration) -> std::path::PathBuf {
    let manager = &cluster.server.cert_manager;
    manager.mode(Mode::Issue(cluster.issuing().lifetime(lifetime)));
    let target = cluster.node.publish(&cluster.volume("web")).await;
    manager.mode(Mode::Fail("the HSM is on holiday".to_owned()));
    renew_all(&cluster.node).await;
    target
}

#[test]
fn a_failed_renewal_keeps_the_last_good_pair_and_is_retried() {
    cluster_test(&[OWN], async |cluster| {
        let target = failing(&cluster, Duration::from_secs(15)).await;
        let first = serial(&target);
        until("it is counted", async || cluster.metric("renewal_failures_total").await >= 1.0).await;
        assert_eq!(serial(&target), first);
        svid(&target).check_key().unwrap();
        assert!(cluster.node.log().contains("the HSM is on holiday"), "{}", cluster.node.log());
        assert!(cluster.creates() <= 4, "no storm: {}", cluster.server.calls.log());
        cluster.server.cert_manager.mode(Mode::Issue(cluster.issuing()));
        until("it is renewed in the end", async || serial(&target) != first).await;
        svid(&target).check_chain().unwrap();
    });
}

/// The event with that reason, once it was sent.
async fn event(cluster: &Cluster, reason: &str) -> String {
    cluster.until(reason, || events(cluster, reason).pop()).await
}

fn events(cluster: &Cluster, reason: &str) -> Vec<String> {
    let events = cluster.server.calls.of("create", "events").into_iter().map(|call| call.body);
    events.filter(|event| event["reason"] == reason).map(|event| event.to_string()).collect()
}

#[test]
fn the_first_identity_of_a_volume_is_an_event_and_so_are_renewals_that_fail() {
    cluster_test(&[OWN], async |mut cluster| {
        cluster.server.permissions.everything();
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let text = event(&cluster, "IdentityIssued").await;
        for part in ["uid-of-web", "Normal", &serial(&target), "spiffe://"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let first = serial(&target);
        renew_all(&cluster.node).await;
        until("it is renewed", async || serial(&target) != first).await;
        cluster.node.publish(&cluster.volume("web")).await;
        cluster.node.kill();
        cluster.start().await;
        cluster.node.publish(&cluster.volume("web")).await;
        cluster.server.cert_manager.mode(Mode::Fail("the HSM is on holiday".to_owned()));
        renew_all(&cluster.node).await;
        let text = event(&cluster, "RenewalFailing").await;
        for part in ["uid-of-web", "Warning", "the HSM is on holiday", "keeps its last identity", "[request-failed]"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(events(&cluster, "IdentityIssued").len(), 1, "once per volume");
        assert_eq!(events(&cluster, "RenewalFailing").len(), 1);
    });
}

#[test]
fn shortly_before_the_end_the_pod_gets_an_event() {
    cluster_test(&[OWN], async |cluster| {
        cluster.server.permissions.everything();
        let target = failing(&cluster, Duration::from_secs(10)).await;
        let text = event(&cluster, "IdentityNotRenewed").await;
        for part in ["uid-of-web", "Warning", "the HSM is on holiday", "[identity-overdue]"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        svid(&target).check_chain().expect("it is still valid");
    });
}

#[test]
fn a_denied_renewal_is_reported_on_the_pod_and_keeps_the_identity() {
    cluster_test(&[OWN], async |cluster| {
        cluster.server.permissions.everything();
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let first = serial(&target);
        cluster.server.cert_manager.mode(Mode::Deny("the policy has changed".to_owned()));
        renew_all(&cluster.node).await;
        let text = event(&cluster, "IdentityDenied").await;
        for part in ["uid-of-web", "Warning", "the policy has changed", "[request-failed]"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!((serial(&target), cluster.creates()), (first, 2), "{}", cluster.server.calls.log());
        svid(&target).check_chain().unwrap();
    });
}
