//! `svid-csi identity`.

use std::fs;
use std::process::{Command, Output};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::{delivered, healthy};
use crate::fixture::{Node, test, unseal_below, volume};

fn identity(node: &Node, pod: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    command.args(["identity", "--pod", pod, "--data-root"]).arg(node.path("root")).args(args);
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn json(node: &Node, pod: &str) -> (i32, Value) {
    let (code, text, _) = identity(node, pod, &["--json"]);
    (code, serde_json::from_str(&text).unwrap())
}

/// The SHA-256 of a certificate as openssl prints it.
fn fingerprint(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let bytes = digest::digest(&digest::SHA256, &der);
    bytes.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[test]
fn what_the_pod_has_is_shown_beside_the_record() {
    test(async || {
        let node = healthy(&[]).await;
        for (pod, from) in [("web", "tls.crt"), ("socket", "agent.sock")] {
            let name = format!("shop/{pod}");
            let (code, answer) = json(&node, &name);
            let volume = &answer["volumes"][0];
            assert_eq!((code, &volume["differences"]), (0, &json!([])), "{answer}");
            assert_eq!((&answer["node"], &volume["delivered"]["from"]), (&json!("n1"), &json!(from)));
            let (recorded, has) = (&volume["recorded"], &volume["delivered"]["chain"][0]);
            assert_eq!(volume["delivered"]["spiffe_id"], format!("spiffe://example.org/ns/shop/sa/{pod}"));
            assert_eq!((&recorded["serial"], &recorded["not_after"]), (&has["serial"], &has["not_after"]));

            let (code, pem, _) = identity(&node, &name, &["--pem"]);
            assert!(code == 0 && !pem.contains("PRIVATE"), "{pem}");
            assert_eq!(fingerprint(&pem), has["sha256"].as_str().unwrap());

            let (code, text, _) = identity(&node, &name, &[]);
            assert!(code == 0 && text.contains("\n  the pod has what the driver recorded\n"), "{text}");
            assert!(
                text.contains("\n  key: belongs to the certificate\n  chain: leads to the trust bundle\n"),
                "{text}"
            );
            assert!(!text.contains("recorded:") && text.is_ascii() && !text.contains('\x1b'), "{text}");
        }
        let file = fs::read(delivered(&node, "web").join("tls.crt")).unwrap();
        assert_eq!(identity(&node, "shop/web", &["--pem"]).1.into_bytes(), file);
    });
}

#[test]
fn differences_are_named() {
    test(async || {
        let mut node = healthy(&[]).await;
        let (web, api) = (delivered(&node, "web"), delivered(&node, "api"));
        for file in ["tls.crt", "tls.key"] {
            fs::write(web.join(file), fs::read(api.join(file)).unwrap()).unwrap();
        }
        let (code, answer) = json(&node, "shop/web");
        let volume = &answer["volumes"][0];
        assert_eq!(
            (code, &volume["differences"][0], &volume["differences"][1]),
            (1, &json!("spiffe_id"), &json!("serial"))
        );
        assert_eq!(volume["delivered"]["key_problem"], Value::Null);
        let (_, text, _) = identity(&node, "shop/web", &[]);
        assert!(text.contains("DIFFERENT: the pod has another identity than recorded"), "{text}");
        let id =
            "  SPIFFE ID: spiffe://example.org/ns/shop/sa/api\n    recorded: spiffe://example.org/ns/shop/sa/web\n";
        assert!(text.contains(id), "{text}");

        fs::write(api.join("tls.key"), fs::read(delivered(&node, "web").join("tls.crt")).unwrap()).unwrap();
        let (code, answer) = json(&node, "shop/api");
        assert!(code == 2 && answer["volumes"][0]["unreadable"].as_str().unwrap().contains("tls.key"), "{answer}");
        let (code, text, _) = identity(&node, "shop/api", &[]);
        assert!(code == 2 && text.contains("UNREADABLE: tls.key") && text.contains("recorded serial: "), "{text}");

        unseal_below(&node.path("root/data/volumes"));
        fs::remove_file(node.path(&format!("root/data/volumes/{}/agent.sock", volume_id("socket")))).unwrap();
        let (code, text, _) = identity(&node, "shop/socket", &[]);
        assert!(code == 2 && text.contains("UNREADABLE: "), "{text}");

        let (code, text, error) = identity(&node, "shop/gone", &[]);
        assert!(code == 2 && text.is_empty() && error.contains("no volume for the pod shop/gone"), "{error}");
        node.kill();
        let (code, text, error) = identity(&node, "shop/web", &[]);
        assert!(code == 2 && text.is_empty() && error.contains("no longer running"), "{error}");
    });
}

#[test]
fn a_key_of_another_certificate_makes_it_unusable() {
    test(async || {
        let node = healthy(&[]).await;
        let (web, api) = (delivered(&node, "web"), delivered(&node, "api"));
        fs::write(web.join("tls.key"), fs::read(api.join("tls.key")).unwrap()).unwrap();
        let (code, text, _) = identity(&node, "shop/web", &[]);
        assert!(code == 1 && text.contains("UNUSABLE: ") && !text.contains("belongs to the certificate"), "{text}");
    });
}

fn volume_id(pod: &str) -> String {
    volume(pod).id().to_string()
}
