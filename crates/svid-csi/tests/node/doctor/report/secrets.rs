//! No secret of a node is in its report, wherever it was.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use svid_csi_testkit::api_server::Mode;

use super::leaks::leaks;
use super::{command, run, unpacked};
use crate::cert_manager::cluster::{Cluster, DRIVER_TOKEN, cluster_test, with_tokens};
use crate::doctor::cluster::{object, put};
use crate::doctor::{doctor, found};
use crate::fixture::{Node, pod, until, volume};

const FLAG: &str = "fl4g-t0ken-0f-an-admin";
const VARIABLE: &str = "v4riable-0f-the-driver";
const PASSWORD: &str = "correct horse battery staple";
const OF_ISSUER: &str = "HSM-p4ssphrase-0815";
const OF_EVENT: &str = "b3arer-0f-an-event";
const OF_LOG: &str = "l0gged-by-mistake";

const ARGS: &[&str] = &[
    "--kubelet-dir={dir}/kubelet",
    "--allow-plan=local-ca:files",
    "--local-ca-dir={dir}/ca",
    "--token=fl4g-t0ken-0f-an-admin",
    "--log-level=5",
];

/// Every private key in the files below a folder, as PEM text and as DER.
fn keys_below(folder: &Path, keys: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            keys_below(&entry.path(), keys);
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            let pem = PrivateKeyDer::from_pem_slice(&bytes).map(|key| key.secret_der().to_vec());
            keys.extend(pem.ok());
        }
    }
}

/// A message with secrets in many forms, as a careless issuer writes it.
fn careless(key_pem: &str) -> String {
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJlLW9mLWFuLWFkbWlu";
    format!("the HSM said passphrase={OF_ISSUER} {{\"token\":\"{token}\"}} {key_pem}")
}

/// A host on which systemd runs the driver, with a journal that should not have been written.
fn journal(node: &Node, lines: &str) {
    super::super::mount(&["-t".as_ref(), "tmpfs".as_ref(), "none".as_ref(), OsStr::new("/run")]);
    fs::create_dir_all("/run/systemd/system").unwrap();
    fs::create_dir(node.path("bin")).unwrap();
    fs::write(node.path("journal"), lines).unwrap();
    let script = format!("#!/bin/sh\ncat {} {}\n", node.path("log").display(), node.path("journal").display());
    fs::write(node.path("bin/journalctl"), script).unwrap();
    fs::set_permissions(node.path("bin/journalctl"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn event() -> Value {
    let about = json!({"kind": "Pod", "namespace": "shop", "name": "web"});
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "shop", "name": "web.1"}, "involvedObject": about,
        "reportingComponent": "svid-csi-driver", "reason": "IdentityNotRenewed",
        "message": format!("Authorization: Bearer {OF_EVENT}"),
    })
}

#[test]
fn no_secret_of_a_node_is_in_its_report() {
    cluster_test(ARGS, async |mut cluster| {
        cluster.node.kill();
        cluster.node.variable("DB_PASSWORD", VARIABLE);
        cluster.start().await;
        let tokens = publish(&cluster).await;
        let mut secrets: Vec<Vec<u8>> = Vec::new();
        keys_below(&cluster.node.path("root"), &mut secrets);
        keys_below(&cluster.node.path("ca"), &mut secrets);
        secrets.sort_unstable();
        secrets.dedup();
        assert!(secrets.len() >= 3, "keys of two volumes and of an authority: {}", secrets.len());
        let key = PrivateKeyDer::from_pem_slice(&fs::read(cluster.node.path("leaked.pem")).unwrap()).unwrap();
        secrets.push(key.secret_der().to_vec());
        let texts = [FLAG, VARIABLE, PASSWORD, OF_ISSUER, OF_EVENT, OF_LOG, DRIVER_TOKEN];
        secrets.extend(texts.map(|text| text.as_bytes().to_vec()));
        secrets.extend(tokens.iter().map(|token| token.as_bytes().to_vec()));

        let path = format!("{}:{}", cluster.node.path("bin").display(), std::env::var("PATH").unwrap());
        let (code, archive, error) = run(command(&cluster.node).env("PATH", path).args(["--output", "-"]));
        assert_eq!(code, 0, "{error}");
        let files = unpacked(&archive);
        for (name, text) in &files {
            for secret in &secrets {
                assert_eq!(leaks(text.as_bytes(), secret), Vec::<String>::new(), "{name}: {text}");
            }
        }
        assert!(files["flags.txt"].contains("--token=[redacted]\n"), "{}", files["flags.txt"]);
        assert!(files["environment.txt"].contains("DB_PASSWORD\n"), "{}", files["environment.txt"]);
        assert!(files["journal.txt"].contains("a line of the journal\n"), "{}", files["journal.txt"]);
        for name in ["facts.json", "objects/certificaterequests.json", "findings.txt"] {
            assert!(files[name].contains("the HSM said passphrase=[redacted]"), "{name}: {}", files[name]);
        }
        assert!(files["objects/events.json"].contains("Authorization: [redacted]"), "{}", files["objects/events.json"]);
        let csi_driver: Value =
            serde_json::from_str(&files["objects/csidriver-spiffe.csi.cert-manager.io.json"]).unwrap();
        assert_eq!(csi_driver["spec"]["tokenRequests"][0]["audience"], "");
    });
}

/// Publishes volumes of both sources, lets a renewal fail, and puts secrets into events and the journal. Returns the pods'
/// tokens.
async fn publish(cluster: &Cluster) -> Vec<String> {
    let node = &cluster.node;
    cluster.server.permissions.everything();
    put(cluster, object(true));
    put(cluster, event());
    let token = cluster.server.token_of(&pod("db"), "n1");
    let target = node.publish(&with_tokens("db", &[("", &token)])).await;
    let leaked = fs::read_to_string(target.join("tls.key")).unwrap();
    fs::write(node.path("leaked.pem"), &leaked).unwrap();
    let with_password = volume("web")
        .attribute("svid-csi/source", "local-ca")
        .attribute("svid-csi/file-pkcs12", "key.p12")
        .secret("pkcs12-password", PASSWORD);
    node.publish(&with_password).await;
    cluster.server.cert_manager.mode(Mode::Fail(careless(&leaked)));
    crate::endpoints::renew_pod(node, "shop/db").await;
    until("the renewal has failed", async || {
        let (_, answer) = doctor(node, &[]);
        found(&answer).any(|finding| finding["id"] == "request-failed")
    })
    .await;
    let escaped = serde_json::to_string(&leaked).unwrap();
    journal(
        node,
        &format!("a line of the journal\npassword: {OF_LOG}\n{{\"key\":{escaped}}}\n{leaked}token={token}\n"),
    );
    vec![token]
}
