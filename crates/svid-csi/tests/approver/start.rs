//! Successful and failed starts.

use std::path::Path;

use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::process::Approver;

#[tokio::test]
async fn without_an_api_server_it_waits() {
    let cluster = Cluster::start();
    cluster.server.stop();
    let mut approver = Approver::start(&cluster.kubeconfig(), &[]);
    approver.logged(&["cannot watch certificate requests"]).await;
    assert!(approver.get("/livez").await.starts_with("HTTP/1.1 200"));
    assert!(approver.get("/readyz").await.starts_with("HTTP/1.1 503"));
    assert_eq!(approver.metric("watch_synced").await, 0.0);
    assert!(approver.runs());
    cluster.server.resume();
    approver.ready().await;
    cluster.good("shop", "web");
    cluster.approved("shop", "web").await;
    approver.signal(Signal::INT);
    assert_eq!(approver.ended().await, Some(0));
}

#[tokio::test]
async fn a_waiting_approver_can_be_stopped() {
    let cluster = Cluster::start();
    cluster.server.stop();
    let mut approver = Approver::start(&cluster.kubeconfig(), &[]);
    approver.logged(&["cannot watch certificate requests"]).await;
    approver.signal(Signal::TERM);
    assert_eq!(approver.ended().await, Some(0), "{}", approver.log());
}

#[tokio::test]
async fn an_unusable_kubeconfig_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, broken) = (dir.path().join("missing"), dir.path().join("broken"));
    std::fs::write(&broken, "{clusters: 7}").unwrap();
    for path in [&missing, &broken] {
        let mut approver = Approver::start(path, &[]);
        assert_eq!(approver.ended().await, Some(1));
        let line = approver.logged(&["ERROR", &format!("--kubeconfig {}", path.display())]).await;
        assert!(line.len() < 500, "{line}");
    }
}

#[tokio::test]
async fn outside_of_a_pod_a_kubeconfig_is_required() {
    let mut approver = Approver::start(Path::new(""), &["--kubeconfig="]);
    assert_eq!(approver.ended().await, Some(1));
    approver.logged(&["outside of a pod, give --kubeconfig"]).await;
}

#[tokio::test]
async fn an_address_in_use_is_an_error_for_probes_and_a_warning_for_metrics() {
    let cluster = Cluster::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut approver = Approver::start(&cluster.kubeconfig(), &["--readiness-probe-bind-address", &address]);
    assert_eq!(approver.ended().await, Some(1));
    approver.logged(&[&format!("--readiness-probe-bind-address {address}: cannot listen")]).await;
    let approver = Approver::start(&cluster.kubeconfig(), &["--metrics-bind-address", &address]);
    approver.logged(&["there will be no metrics"]).await;
    approver.ready().await;
}

#[tokio::test]
async fn a_missing_role_is_named_once() {
    let cluster = Cluster::start();
    cluster.server.permissions.only(|access| access.resource != "certificaterequests");
    let approver = Approver::start(&cluster.kubeconfig(), &[]);
    approver.logged(&["the verbs list and watch on certificaterequests.cert-manager.io"]).await;
    let often = || (cluster.server.calls.count("list", "certificaterequests") >= 3).then_some(());
    cluster.server.pulse.until("it tried again", often).await;
    assert_eq!(approver.lines("certificaterequests.cert-manager.io"), 1, "{}", approver.log());
    cluster.server.permissions.everything();
    approver.ready().await;
}

#[tokio::test]
async fn incomplete_requests_are_dropped_and_do_not_block_others() {
    let cluster = Cluster::start();
    let approver = Approver::start(&cluster.kubeconfig(), &[]);
    approver.ready().await;
    let mut halves = Vec::new();
    for _ in 0..100 {
        halves.push(approver.half_a_request("/metrics").await);
        halves.push(approver.half_a_request("/readyz").await);
    }
    approver.metric("watch_synced").await;
    assert!(approver.get("/livez").await.starts_with("HTTP/1.1 200"));
    for half in halves {
        half.await.unwrap();
    }
}
