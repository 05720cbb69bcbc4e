//! Several approvers, of which one decides.

use rustix::process::Signal;
use serde_json::Value;
use svid_csi_testkit::api_server::Fault;

use crate::cluster::Cluster;
use crate::process::Approver;

/// Two approvers, the first of which decides.
async fn two(cluster: &Cluster) -> (Approver, Approver) {
    let first = cluster.approver(&[]).await;
    let second = Approver::start(&cluster.kubeconfig(), &[]);
    second.ready().await;
    (first, second)
}

#[tokio::test]
async fn one_decides_and_the_other_follows_when_it_is_killed() {
    let cluster = Cluster::start();
    let (first, second) = two(&cluster).await;
    cluster.good("shop", "one");
    cluster.approved("shop", "one").await;
    assert_eq!((first.metric("leader").await, second.metric("leader").await), (1.0, 0.0));
    let holder = cluster.holder().unwrap();
    first.signal(Signal::KILL);
    cluster.good("shop", "two");
    cluster.approved("shop", "two").await;
    assert_ne!(cluster.holder().unwrap(), holder);
    second.counted("decisions_total{decision=\"approved\",reason=\"\"}", 1.0).await;
}

#[tokio::test]
async fn a_stopping_leader_finishes_and_hands_over() {
    let cluster = Cluster::start();
    let (mut first, second) = two(&cluster).await;
    cluster.server.faults.next(1, "update", "certificaterequests/status", Fault::Hang);
    cluster.good("shop", "one");
    cluster.server.pulse.until("it is being written", || (cluster.updates() == 1).then_some(())).await;
    first.signal(Signal::TERM);
    first.logged(&["stopping"]).await;
    assert!(cluster.holder().is_some(), "a decision is in progress");
    cluster.server.faults.clear();
    assert_eq!(first.ended().await, Some(0), "{}", first.log());
    assert_eq!(cluster.server.calls.of("update", "certificaterequests/status")[0].code, Some(200));
    cluster.approved("shop", "one").await;
    first.logged(&["released the Lease"]).await;
    assert!(!first.log().contains("before all its tasks had ended"), "{}", first.log());
    cluster.good("shop", "two");
    cluster.approved("shop", "two").await;
    second.counted("decisions_total{decision=\"approved\",reason=\"\"}", 1.0).await;
}

#[tokio::test]
async fn an_approver_without_a_lease_decides_nothing_and_reports_why() {
    let cluster = Cluster::start();
    cluster.server.permissions.only(|access| access.resource != "leases");
    let approver = Approver::start(&cluster.kubeconfig(), &[]);
    approver.ready().await;
    cluster.good("shop", "one");
    approver.logged(&["the verbs get, create and update on leases of coordination.k8s.io"]).await;
    assert_eq!((cluster.updates(), cluster.decision("shop", "one")), (0, None::<Value>));
    cluster.server.permissions.everything();
    cluster.approved("shop", "one").await;
    assert_eq!(approver.lines("on leases of coordination.k8s.io"), 1);
}
