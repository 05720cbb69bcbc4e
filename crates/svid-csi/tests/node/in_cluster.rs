//! A driver that finds the API server like any pod.

use std::fs;
use std::path::Path;

use serde_json::json;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::api_server::{ApiServer, User};
use svid_csi_testkit::proxy::{Protocol, Script};

use crate::fixture::{FILES, Node, run, test, until};

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ARGS: &[&str] = &["--data-root={dir}/root", "--trust-domain=example.org", "--local-ca-roots=svid-csi/roots"];

/// The files that the kubelet mounts into every pod, in this mount namespace.
fn service_account(token: &str, ca: &TestCa) {
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    let folder = Path::new(SERVICE_ACCOUNT);
    fs::create_dir_all(folder).unwrap();
    for (name, text) in [("token", token), ("namespace", "svid-csi"), ("ca.crt", &ca.bundle_pem())] {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// `HTTPS_PROXY` applies there as well; the API server behind it is verified by the CA of the service account.
#[test]
fn the_api_server_may_be_behind_a_proxy() {
    test(async || {
        let (server, ca) = (ApiServer::start(), TestCa::new("cluster"));
        server.users.accept("t0ken", User::service_account("svid-csi", "svid-csi"));
        let metadata = json!({"name": "roots", "namespace": "svid-csi"});
        server.objects.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}));
        service_account("t0ken", &ca);
        let server_tls = Some(ca.server_tls("10.96.0.1"));
        let proxy = Script { server_tls, ..Script::plain(server.address(), Protocol::Http) }.start().await;
        let mut node = Node::new(&[FILES, ARGS, &["--node-id=n1"]]);
        for (name, value) in [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")] {
            node.variable(name, value);
        }
        node.variable("HTTPS_PROXY", &proxy.address().to_string());
        node.start().await;
        let entry = || server.objects.get("configmaps", "svid-csi", "roots").unwrap()["data"]["n1"].is_string();
        until("the node's root is in the ConfigMap", async || entry()).await;
        assert!(proxy.asked().iter().all(|head| head.starts_with("connect 10.96.0.1:443 ")), "{:?}", proxy.asked());
    });
}
