//! The issuer that a ConfigMap names.

use serde_json::{Value, json};
use svid_csi_testkit::api_server::Fault;

use crate::cluster::Cluster;

const FLAGS: [&str; 4] =
    ["--runtime-issuance-config-map-name", "issuance", "--runtime-issuance-config-map-namespace", "cert-manager"];

fn config_map(issuer: &str) -> Value {
    let data = json!({ "issuer-name": issuer, "issuer-kind": "ClusterIssuer", "issuer-group": "cert-manager.io" });
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "namespace": "cert-manager", "name": "issuance" }, "data": data,
    })
}

#[tokio::test]
async fn the_issuer_may_be_switched_while_it_runs() {
    let cluster = Cluster::start();
    cluster.server.objects.put(config_map("one"));
    let approver = cluster.approver(&FLAGS).await;
    let request = |name: &str, issuer: &str| {
        cluster.request("shop", name, |request| request["spec"]["issuerRef"]["name"] = issuer.into());
    };
    request("a", "one");
    cluster.approved("shop", "a").await;
    request("b", "two");
    assert_eq!(cluster.decided("shop", "b").await["type"], "Denied");
    // The driver hears of the change, this process does not: it asks before it denies.
    cluster.server.faults.always("watch", "configmaps", Fault::Hang);
    cluster.server.faults.always("list", "configmaps", Fault::Hang);
    cluster.server.watches.break_all();
    cluster.server.objects.put(config_map("two"));
    request("c", "two");
    cluster.approved("shop", "c").await;
    cluster.server.faults.clear();
    approver.logged(&["the issuer is now the one in the ConfigMap", "two"]).await;
    cluster.server.objects.remove("configmaps", "cert-manager", "issuance");
    approver.logged(&["there is no such ConfigMap"]).await;
    request("d", "spiffe-ca");
    cluster.approved("shop", "d").await;
}
