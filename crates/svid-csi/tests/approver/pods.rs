//! Modes in which the driver creates the requests of its pods.

use serde_json::{Value, json};
use svid_csi_testkit::api_server::Fault;

use crate::cluster::{Cluster, DRIVER, by_driver, driver_pod, pod};

const NODE_BOUND: [&str; 4] = ["--request-mode", "node-bound", "--driver-service-account", DRIVER];
const OWN: [&str; 3] = ["--use-own-service-account", "--driver-service-account", DRIVER];

/// A cluster with the driver and the pod `cart-0` on one node.
fn cluster() -> Cluster {
    let cluster = Cluster::start();
    cluster.server.objects.put(driver_pod());
    cluster.server.objects.put(pod("shop", "cart-0"));
    cluster
}

fn reads(cluster: &Cluster, name: &str) -> usize {
    cluster.server.calls.of("get", "pods").iter().filter(|call| call.name == name).count()
}

#[tokio::test]
async fn a_node_bound_driver_is_trusted_for_its_own_pods() {
    let cluster = cluster();
    let approver = cluster.approver(&NODE_BOUND).await;
    cluster.request("shop", "good", by_driver);
    cluster.approved("shop", "good").await;
    for (name, change) in [
        ("node", (|pod| pod["spec"]["nodeName"] = "n2".into()) as fn(&mut Value)),
        ("volume", |pod| pod["spec"]["volumes"] = json!([])),
        ("account", |pod| pod["spec"]["serviceAccountName"] = "till".into()),
        ("mirror", |pod| pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" })),
        ("finished", |pod| pod["status"]["phase"] = "Failed".into()),
        ("uid", |pod| pod["metadata"]["uid"] = "another".into()),
    ] {
        let mut other = pod("shop", &format!("pod-{name}"));
        change(&mut other);
        cluster.server.objects.put(other);
        cluster.request("shop", name, |request| {
            by_driver(request);
            let owner = &mut request["metadata"]["ownerReferences"][0];
            (owner["name"], owner["uid"]) = (format!("pod-{name}").into(), format!("uid-of-pod-{name}").into());
        });
        assert_eq!(cluster.decided("shop", name).await["type"], "Denied", "{name}");
        let class = format!("decisions_total{{decision=\"denied\",reason=\"pod_{name}\"}}");
        approver.counted(&class, 1.0).await;
    }
    cluster.request("shop", "missing", |request| {
        by_driver(request);
        request["metadata"]["ownerReferences"][0]["name"] = "nobody".into();
    });
    assert_eq!(cluster.decided("shop", "missing").await["type"], "Denied");
}

#[tokio::test]
async fn pods_are_read_once_for_concurrent_requests() {
    let cluster = cluster();
    cluster.server.faults.always("get", "pods", Fault::Hang);
    let _approver = cluster.approver(&NODE_BOUND).await;
    for number in 0..20 {
        cluster.request("shop", &format!("r{number}"), by_driver);
    }
    let both = || (reads(&cluster, "driver-1") == 1 && reads(&cluster, "cart-0") == 1).then_some(());
    cluster.server.pulse.until("both pods are being read", both).await;
    cluster.server.faults.clear();
    for number in 0..20 {
        cluster.approved("shop", &format!("r{number}")).await;
    }
    // On a slow machine, the facts are too old by the time the last request is judged.
    assert!(cluster.server.calls.count("get", "pods") < 20, "{}", cluster.server.calls.log());
    assert_eq!(cluster.server.calls.count("list", "pods") + cluster.server.calls.count("watch", "pods"), 0);
}

#[tokio::test]
async fn pods_that_temporarily_cannot_be_read_are_read_again() {
    let cluster = cluster();
    cluster.server.faults.next(3, "get", "pods", Fault::InternalError);
    let approver = cluster.approver(&NODE_BOUND).await;
    cluster.request("shop", "web", by_driver);
    cluster.approved("shop", "web").await;
    approver.logged(&["the pods of the request cannot be read", "shop/web"]).await;
}

#[tokio::test]
async fn node_bound_requests_stay_pending_if_pods_may_not_be_read() {
    let cluster = cluster();
    cluster.server.permissions.only(|access| access.resource != "pods");
    let approver = cluster.approver(&NODE_BOUND).await;
    for name in ["one", "two"] {
        cluster.request("shop", name, by_driver);
    }
    approver.logged(&["node-bound mode needs the verb get on pods"]).await;
    cluster.request("shop", "bad", |request| request["spec"]["isCA"] = true.into());
    assert_eq!(cluster.decided("shop", "bad").await["type"], "Denied");
    assert_eq!((cluster.decision("shop", "one"), cluster.decision("shop", "two")), (None, None));
    assert_eq!(approver.lines("needs the verb get on pods"), 1);
}

#[tokio::test]
async fn with_its_own_account_the_driver_is_trusted_if_pods_may_not_be_read() {
    let cluster = cluster();
    cluster.server.permissions.only(|access| access.resource != "pods");
    let approver = cluster.approver(&OWN).await;
    for name in ["one", "two"] {
        cluster.request("shop", name, by_driver);
        cluster.approved("shop", name).await;
    }
    approver.logged(&["use --request-mode node-bound"]).await;
    assert_eq!(approver.lines("use --request-mode node-bound"), 1);
}

#[tokio::test]
async fn with_its_own_account_the_pod_must_have_the_service_account() {
    let cluster = cluster();
    let _approver = cluster.approver(&OWN).await;
    cluster.request("shop", "good", by_driver);
    cluster.approved("shop", "good").await;
    let mut other = pod("shop", "other");
    other["spec"]["serviceAccountName"] = "till".into();
    cluster.server.objects.put(other);
    cluster.request("shop", "bad", |request| {
        by_driver(request);
        let owner = &mut request["metadata"]["ownerReferences"][0];
        (owner["name"], owner["uid"]) = ("other".into(), "uid-of-other".into());
    });
    assert_eq!(cluster.decided("shop", "bad").await["type"], "Denied");
}
