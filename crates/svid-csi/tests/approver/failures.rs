//! Failures during decisions, from which the approver recovers.

use serde_json::json;
use svid_csi_testkit::api_server::Fault;

use crate::cluster::Cluster;

const STATUS: &str = "certificaterequests/status";

#[tokio::test]
async fn temporary_failures_are_retried() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&[]).await;
    for (name, fault) in [
        ("internal", Fault::InternalError),
        ("busy", Fault::TooManyRequests(1)),
        ("dropped", Fault::Drop),
        ("lost", Fault::LoseAnswer),
    ] {
        cluster.server.faults.next(2, "update", STATUS, fault);
        cluster.good("shop", name);
        cluster.approved("shop", name).await;
        cluster.server.faults.clear();
    }
    // One response was lost, so the approver of that request is unknown; nothing is pending, and nothing was approved
    // twice.
    approver.counted("pending_requests", 0.0).await;
    assert_eq!(approver.metric("approved_by_another_total").await, 0.0);
    assert!(approver.metric("failures_total").await >= 2.0);
    for name in ["internal", "busy", "dropped", "lost"] {
        let request = cluster.server.objects.get("certificaterequests", "shop", name).unwrap();
        assert_eq!(request["status"]["conditions"].as_array().unwrap().len(), 1, "{request}");
    }
}

#[tokio::test]
async fn a_request_that_changes_in_the_meantime_is_judged_in_its_new_version() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&[]).await;
    cluster.server.faults.always("update", STATUS, Fault::Hang);
    cluster.good("shop", "web");
    cluster.server.pulse.until("it is being written", || (cluster.updates() == 1).then_some(())).await;
    let mut request = cluster.server.objects.get("certificaterequests", "shop", "web").unwrap();
    request["spec"]["isCA"] = true.into();
    cluster.server.objects.put(request);
    cluster.server.faults.clear();
    assert_eq!(cluster.decided("shop", "web").await["type"], "Denied");
    assert_eq!(cluster.server.calls.of("update", STATUS)[0].code, Some(409));
    approver.counted("decisions_total{decision=\"approved\",reason=\"\"}", 0.0).await;
}

#[tokio::test]
async fn a_request_deleted_in_the_meantime_is_forgotten() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&[]).await;
    cluster.server.faults.always("update", STATUS, Fault::Hang);
    cluster.good("shop", "web");
    cluster.server.pulse.until("it is being written", || (cluster.updates() == 1).then_some(())).await;
    cluster.server.cert_manager.delete("web");
    cluster.server.faults.clear();
    cluster.one_more().await;
    approver.counted("pending_requests", 0.0).await;
    assert_eq!(cluster.updates(), 2);
}

#[tokio::test]
async fn a_decision_that_cannot_be_stored_is_not_repeated() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&[]).await;
    cluster.server.faults.always("update", STATUS, Fault::TooLarge);
    cluster.good("evil", "huge");
    let line = approver.logged(&["a request is too large for a decision to be stored with it"]).await;
    assert!(line.contains("evil") && line.contains("huge"), "{line}");
    cluster.server.faults.clear();
    cluster.one_more().await;
    approver.counted("pending_requests", 1.0).await;
    assert_eq!((cluster.updates(), approver.metric("failures_total").await), (2, 0.0));
}

#[tokio::test]
async fn a_denial_that_is_forbidden_is_counted_and_not_repeated() {
    let cluster = Cluster::start();
    cluster.server.permissions.only(|access| {
        access.verb != "approve" || ["clusterissuers.cert-manager.io/spiffe-ca"].contains(&&*access.name)
    });
    let approver = cluster.approver(&[]).await;
    for name in ["one", "two"] {
        cluster.request("shop", name, |request| {
            request["spec"]["issuerRef"] = json!({ "name": "other", "kind": "Issuer" });
        });
    }
    let line = approver.logged(&["denying requests is forbidden"]).await;
    assert!(line.contains("the verb approve on signers of cert-manager.io named issuers.cert-manager.io/shop.other"));
    approver.counted("denials_forbidden_total", 2.0).await;
    cluster.one_more().await;
    assert_eq!(cluster.updates(), 3, "{}", cluster.server.calls.log());
    assert_eq!(approver.lines("denying requests is forbidden"), 1);
    approver.counted("pending_requests", 2.0).await;
    assert_eq!(cluster.decision("shop", "one"), None);
    // A list that contains them again does not cause a retry.
    cluster.server.watches.gone_all();
    cluster
        .server
        .pulse
        .until("listed again", || (cluster.server.calls.count("list", "certificaterequests") == 2).then_some(()))
        .await;
    cluster.good("zzz", "very-last");
    cluster.approved("zzz", "very-last").await;
    assert_eq!(cluster.updates(), 4);
}

#[tokio::test]
async fn a_status_that_may_not_be_written_is_named() {
    let cluster = Cluster::start();
    cluster.server.permissions.only(|access| access.resource != STATUS);
    let approver = cluster.approver(&[]).await;
    cluster.good("shop", "web");
    let line = approver.logged(&["approving requests is forbidden"]).await;
    assert!(line.contains("the verb update on certificaterequests/status of cert-manager.io"), "{line}");
    approver.counted("approvals_forbidden_total", 1.0).await;
}

#[tokio::test]
async fn a_broken_watch_loses_nothing() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&[]).await;
    type Break = fn(&Cluster);
    let breaks: [(&str, Break); 4] = [
        ("broken", |cluster| cluster.server.watches.break_all()),
        ("ended", |cluster| cluster.server.watches.end_all()),
        ("gone", |cluster| cluster.server.watches.gone_all()),
        ("compacted", |cluster| {
            cluster.server.objects.compact();
            cluster.server.watches.break_all();
        }),
    ];
    for (name, break_it) in breaks {
        break_it(&cluster);
        cluster.good("shop", name);
        cluster.approved("shop", name).await;
    }
    // Requests deleted without a watch are also forgotten.
    cluster.server.faults.always("*", "certificaterequests", Fault::Unavailable);
    cluster.request("shop", "stays", |request| request["spec"]["issuerRef"]["name"] = "spiffe-ca".into());
    cluster.server.watches.break_all();
    cluster.server.cert_manager.delete("stays");
    cluster.server.objects.compact();
    cluster.server.faults.clear();
    cluster.one_more().await;
    approver.counted("pending_requests", 0.0).await;
}

#[tokio::test]
async fn the_approver_survives_a_restart_of_the_api_server() {
    let cluster = Cluster::start();
    let mut approver = cluster.approver(&[]).await;
    cluster.server.stop();
    approver.logged(&["cannot watch certificate requests"]).await;
    assert!(approver.runs());
    cluster.good("shop", "meanwhile");
    cluster.server.resume();
    cluster.approved("shop", "meanwhile").await;
}
