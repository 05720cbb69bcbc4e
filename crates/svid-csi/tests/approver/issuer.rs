//! The issuer named by a ConfigMap.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use svid_csi_testkit::api_server::Fault;

use crate::cluster::Cluster;

const FLAGS: [&str; 4] =
    ["--runtime-issuance-config-map-name", "issuance", "--runtime-issuance-config-map-namespace", "cert-manager"];

/// A CSR without a SPIFFE identity, as written by openssl.
const FOREIGN_CSR: &str = "\
-----BEGIN CERTIFICATE REQUEST-----\n\
MIHIMHACAQAwDjEMMAoGA1UEAwwDd2ViMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD\n\
QgAEGdgDn7qTTCemBKhQQ1TInt1OiV5eAJwFT6WugXcek+NRKPxZPEJ1EpyfeHGw\n\
TMC/WGdk80f+0FQmNPfLipy7oKAAMAoGCCqGSM49BAMCA0gAMEUCIGnJFBVvK7e2\n\
vdOM2huH7ZZCaeraB2Wo7nQQgKCyE2WcAiEAgOlM9W1OPCeJa9hV2xhX7irPeh4N\n\
CuX6oHzt3mLODJc=\n\
-----END CERTIFICATE REQUEST-----\n\
";

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
    // The driver receives the change and this process does not, so it must read the ConfigMap before it denies.
    cluster.server.faults.always("watch", "configmaps", Fault::Hang);
    cluster.server.faults.always("list", "configmaps", Fault::Hang);
    cluster.server.watches.break_all();
    cluster.server.objects.put(config_map("two"));
    request("c", "two");
    cluster.approved("shop", "c").await;
    cluster.server.faults.clear();
    approver.logged(&["issuer updated from the ConfigMap", "two"]).await;
    cluster.server.objects.remove("configmaps", "cert-manager", "issuance");
    approver.logged(&["does not exist; using the issuer from the flags"]).await;
    request("d", "spiffe-ca");
    cluster.approved("shop", "d").await;
}

#[tokio::test]
async fn nothing_is_approved_with_an_outdated_issuer() {
    let cluster = Cluster::start();
    let approver = cluster.approver(&auto()).await;
    unannotated(&cluster, "ca", "one");
    unannotated(&cluster, "server", "web");
    approver.counted("pending_requests", 2.0).await;
    cluster.server.objects.put(config_map("one"));
    assert_eq!(cluster.decided("shop", "ca").await["type"], "Denied");
    cluster.approved("shop", "server").await;
}

#[tokio::test]
async fn an_issuer_stays_protected_after_a_switch_and_a_restart() {
    let cluster = Cluster::start();
    cluster.server.objects.put(config_map("one"));
    let mut approver = cluster.approver(&auto()).await;
    cluster.request("shop", "a", |request| request["spec"]["issuerRef"]["name"] = "one".into());
    cluster.approved("shop", "a").await;
    cluster.server.objects.put(config_map("two"));
    approver.logged(&["issuer updated from the ConfigMap", "two"]).await;
    unannotated(&cluster, "b", "one");
    assert_eq!(cluster.decided("shop", "b").await["type"], "Denied");
    approver.signal(Signal::TERM);
    approver.ended().await;
    let _next = cluster.approver(&auto()).await;
    for (name, issuer) in [("c", "one"), ("d", "two")] {
        unannotated(&cluster, name, issuer);
        assert_eq!(cluster.decided("shop", name).await["type"], "Denied", "{issuer}");
    }
    unannotated(&cluster, "e", "web");
    cluster.approved("shop", "e").await;
}

/// The driver may have received a new issuer before this process.
#[tokio::test]
async fn a_new_issuer_is_protected_before_the_switch_is_seen() {
    let cluster = Cluster::start();
    cluster.server.objects.put(config_map("one"));
    let _approver = cluster.approver(&auto()).await;
    cluster.server.faults.always("watch", "configmaps", Fault::Hang);
    cluster.server.faults.always("list", "configmaps", Fault::Hang);
    cluster.server.watches.break_all();
    cluster.server.objects.put(config_map("two"));
    unannotated(&cluster, "a", "two");
    assert_eq!(cluster.decided("shop", "a").await["type"], "Denied");
}

/// The only issuer is the one in the ConfigMap, and all requests are judged.
fn auto() -> Vec<&'static str> {
    [&FLAGS[..], &["--issuer-name=", "--auto-approve-non-spiffe"]].concat()
}

/// A request for a CA certificate, with which its owner could issue identities.
fn unannotated(cluster: &Cluster, name: &str, issuer: &str) {
    cluster.request("shop", name, |request| {
        request["metadata"]["annotations"] = json!({});
        request["spec"]["isCA"] = true.into();
        request["spec"]["issuerRef"]["name"] = issuer.into();
        request["spec"]["request"] = STANDARD.encode(FOREIGN_CSR).into();
    });
}
