//! Decisions, and where they are reported.

use serde_json::json;

use crate::cluster::Cluster;

#[tokio::test]
async fn a_good_request_is_approved() {
    let cluster = Cluster::start();
    cluster.request("shop", "early", |request| {
        request["status"] = json!({ "conditions": [{ "type": "Ready", "status": "False", "reason": "Pending" }] });
    });
    let approver = cluster.approver(&[]).await;
    cluster.good("shop", "late");
    for name in ["early", "late"] {
        cluster.approved("shop", name).await;
        approver.logged(&[&format!("shop/{name}"), "decision=\"approved\""]).await;
    }
    let early = cluster.server.objects.get("certificaterequests", "shop", "early").unwrap();
    let conditions = early["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions[0], json!({ "type": "Ready", "status": "False", "reason": "Pending" }));
    assert_eq!(conditions[1]["message"], "Approved request");
    approver.counted("decisions_total{decision=\"approved\",reason=\"\"}", 2.0).await;
    approver.counted("pending_requests", 0.0).await;
    let page = approver.get("/metrics").await;
    for expected in
        ["approver_leader 1", "approver_watch_synced 1", "decision_seconds_count 2", "text/plain; version=0.0.4"]
    {
        assert!(page.contains(expected), "{expected} in {page}");
    }
    assert!(!page.contains("shop"), "no label is for others to choose");
    assert!(approver.get("/livez").await.starts_with("HTTP/1.1 200"));
    assert_eq!(cluster.updates(), 2);
}

#[tokio::test]
async fn a_bad_request_is_denied_and_its_owners_are_notified() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&[]).await;
    cluster.request("shop", "bad", |request| {
        request["spec"]["isCA"] = true.into();
        request["spec"]["usages"] = json!(["client auth\u{1b}[31m\nfake line"]);
    });
    let condition = cluster.decided("shop", "bad").await;
    assert_eq!((&condition["type"], &condition["reason"]), (&json!("Denied"), &json!("spiffe.csi.cert-manager.io")));
    let message = condition["message"].as_str().unwrap();
    assert!(message.starts_with("Denied request: spec.isCA is true"), "{message}");
    assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{message:?}");

    approver.logged(&["shop/bad", "decision=\"denied\"", "spec.isCA is true"]).await;
    approver.counted("decisions_total{decision=\"denied\",reason=\"is_ca\"}", 1.0).await;
    for (kind, name) in [("CertificateRequest", "bad"), ("Pod", "cart-0")] {
        let event = cluster.event(kind, name).await;
        assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("Denied")));
        assert!(event["message"].as_str().unwrap().contains("spec.isCA is true"), "{event}");
        assert_eq!(event["metadata"]["namespace"], "shop");
    }
    assert!(!approver.log().contains('\u{1b}'));
}

#[tokio::test]
async fn other_requests_are_left_alone() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&[]).await;
    cluster.request("shop", "plain", |request| request["metadata"]["annotations"] = json!({}));
    cluster.one_more().await;
    assert_eq!(cluster.decision("shop", "plain"), None);
    approver.counted("pending_requests", 0.0).await;
}

#[tokio::test]
async fn with_auto_approval_other_requests_are_also_judged() {
    let cluster = Cluster::start();
    let _approver = cluster.approver(&["--auto-approve-non-spiffe"]).await;
    cluster.request("shop", "sly", |request| request["metadata"]["annotations"] = json!({}));
    assert_eq!(cluster.decided("shop", "sly").await["type"], "Denied");
}

#[tokio::test]
async fn the_predecessors_roles_are_enough() {
    let cluster = Cluster::start();
    let granted = [
        "list certificaterequests",
        "watch certificaterequests",
        "update certificaterequests/status",
        "approve signers",
        "create events",
        "patch events",
        "get leases",
        "update leases",
        "create leases",
    ];
    cluster.server.permissions.only(move |access| granted.contains(&&*access.action()));
    let approver = cluster.approver(&[]).await;
    cluster.good("shop", "good");
    cluster.request("shop", "bad", |request| request["spec"]["isCA"] = true.into());
    cluster.approved("shop", "good").await;
    cluster.event("CertificateRequest", "bad").await;
    assert!(!approver.log().contains("WARN") && !approver.log().contains("ERROR"), "{}", approver.log());
}

#[tokio::test]
async fn more_requests_than_fit_into_memory_are_decided() {
    let cluster = Cluster::start();
    let approver = crate::process::Approver::start(&cluster.kubeconfig(), &[]);
    // No approver decides yet, so the requests pile up.
    cluster.server.permissions.only(|access| access.resource != "leases");
    approver.ready().await;
    let groups: Vec<_> = (0..100).map(|_| "g".repeat(1_000)).collect();
    for number in 0..80 {
        cluster.request("busy", &format!("r{number}"), |request| request["spec"]["groups"] = json!(groups));
    }
    cluster.good("small", "one");
    approver.counted("pending_requests", 81.0).await;
    cluster.server.permissions.everything();
    cluster.approved("small", "one").await;
    for number in 0..80 {
        cluster.approved("busy", &format!("r{number}")).await;
    }
    approver.counted("pending_requests", 0.0).await;
    let again = cluster.server.calls.of("list", "certificaterequests");
    let again = again.iter().filter(|call| call.namespace == "busy" && call.uri.contains("metadata.name")).count();
    assert!((20..80).contains(&again), "some were held, the others read again: {again}");
    assert_eq!(cluster.updates(), 81);
}
