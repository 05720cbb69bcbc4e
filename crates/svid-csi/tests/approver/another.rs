//! Another approver that is faster.

use serde_json::json;
use svid_csi_testkit::api_server::Fault;

use crate::cluster::Cluster;

fn approve_as_another(cluster: &Cluster, name: &str) {
    let mut request = cluster.server.objects.get("certificaterequests", "shop", name).unwrap();
    let conditions = json!([{ "type": "Approved", "status": "True", "reason": "cert-manager.io" }]);
    request["status"] = json!({ "conditions": conditions });
    cluster.server.objects.put(request);
}

#[tokio::test]
async fn approvals_by_another_are_counted_and_reported_on_the_request() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&[]).await;
    cluster.server.faults.always("update", "certificaterequests/status", Fault::Hang);
    for name in ["one", "two"] {
        cluster.good("shop", name);
    }
    cluster.server.pulse.until("they are being written", || (cluster.updates() == 2).then_some(())).await;
    for name in ["one", "two"] {
        approve_as_another(&cluster, name);
    }
    for name in ["one", "two"] {
        let event = cluster.event("CertificateRequest", name).await;
        assert!(
            event["message"].as_str().unwrap().contains("--controllers=*,-certificaterequests-approver"),
            "{event}"
        );
    }
    // A change of a request that was already counted does not count.
    approve_as_another(&cluster, "one");
    cluster.server.faults.clear();
    cluster.one_more().await;
    approver.counted("approved_by_another_total", 2.0).await;
    assert_eq!(approver.lines("another approver approves requests"), 1);
    approver.counted("pending_requests", 0.0).await;
}

#[tokio::test]
async fn earlier_approvals_are_reported_once() {
    let cluster = Cluster::start();
    for name in ["one", "two"] {
        cluster.good("shop", name);
        approve_as_another(&cluster, name);
    }
    let approver = cluster.approver(&[]).await;
    approver.logged(&["approved by another approver in the past", "count=2", "shop/one"]).await;
    cluster.event("CertificateRequest", "one").await;
    cluster.one_more().await;
    assert_eq!(approver.metric("approved_by_another_total").await, 0.0);
    assert_eq!(cluster.server.objects.all("events").len(), 1);
}
