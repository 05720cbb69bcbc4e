//! The approver's metrics by the standards of Prometheus (`just promtool`).

use svid_csi_testkit::promtool;

use crate::cluster::Cluster;

#[tokio::test]
#[ignore = "needs promtool: `just promtool`"]
async fn the_metrics_of_an_approver_are_clean() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&[]).await;
    cluster.good("shop", "good");
    cluster.approved("shop", "good").await;
    approver.logged(&["shop/good", "decision=\"approved\""]).await;
    approver.counted("pending_requests", 0.0).await;
    let page = approver.get("/metrics").await;
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("decision_seconds_bucket{"), "{body}");
    assert_eq!(promtool(&["check", "metrics"], body), "");
}
