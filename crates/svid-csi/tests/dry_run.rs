//! `svid-csi approver --dry-run`, with the output of kubectl.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use svid_csi_core::cert_request::{Ask, CertificateRequest, IssuerRef};
use svid_csi_core::identity::PrivateKey;
use svid_csi_core::pod::PodRef;
use svid_csi_core::request::csr_pem;
use svid_csi_core::spiffe_id::SpiffeId;

const BINARY: &str = env!("CARGO_BIN_EXE_svid-csi");
const DRIVER: &str = "system:serviceaccount:cert-manager:csi-driver-spiffe";
const NAME: &str = "shop/01010101-0101-4101-8101-010101010101";

/// Exit code, lines of stdout, stderr.
type Judged = (i32, Vec<String>, String);

fn judge_as(program: &Path, flags: &[&str], input: &str) -> Judged {
    let mut command = Command::new(program);
    command.args(flags).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A binary that has refused its flags does not read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let lines = text(output.stdout).lines().map(str::to_owned).collect();
    (output.status.code().expect("a code"), lines, text(output.stderr))
}

fn judge(flags: &[&str], input: &str) -> Judged {
    judge_as(Path::new(BINARY), &[&["approver", "--dry-run"], flags].concat(), input)
}

/// A good request, as stored by the API server, with a change.
fn object(change: impl FnOnce(&mut CertificateRequest)) -> Value {
    let id = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/cart").expect("an ID");
    let word = str::to_owned;
    let pod = PodRef { namespace: word("shop"), name: word("cart-0"), uid: word("u-1"), service_account: word("cart") };
    let issuer = IssuerRef { name: word("my-spiffe-ca"), kind: word("ClusterIssuer"), group: word("cert-manager.io") };
    let ask = Ask {
        pod: &pod,
        id: &id,
        node_id: "node-1",
        volume_id: "csi-1",
        issuer: &issuer,
        duration: Duration::from_secs(3_600),
        annotations: &BTreeMap::new(),
        attempt: 1,
        csr_pem: &csr_pem(&PrivateKey::generate_p256().expect("a key"), &id).expect("a CSR"),
    };
    let mut object = ask.object([1; 16]);
    object.spec.username = word("system:serviceaccount:shop:cart");
    object.spec.extra = [(word("authentication.kubernetes.io/pod-uid"), vec![word("u-1")])].into();
    change(&mut object);
    serde_json::to_value(&object).expect("JSON")
}

fn list(items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": items })
}

/// In the style of `kubectl -o yaml`: blocks, and plain words without quotation marks.
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write_yaml(value, 0, &mut text);
    text
}

fn write_yaml(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                write!(text, "\n{indent}{key}: ").expect("memory");
                write_yaml(value, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                write!(text, "\n{indent}- ").expect("memory");
                write_yaml(item, depth + 1, text);
            }
        }
        Value::String(word) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => text.push_str(word),
        other => write!(text, "{other}").expect("memory"),
    }
}

#[test]
fn good_requests_are_approved_in_every_form() {
    let (one, two) = (object(|_| {}), object(|object| object.metadata.name = "two".to_owned()));
    let (first, second) = (format!("approve {NAME} it follows every rule"), "approve shop/two it follows every rule");
    let several = format!("---{}\n---{}\n", yaml(&one), yaml(&two));
    let pretty = serde_json::to_string_pretty(&list(&[one.clone(), two.clone()])).expect("JSON");
    for input in [several, yaml(&list(&[one.clone(), two.clone()])), pretty] {
        let (code, lines, stderr) = judge(&[], &input);
        assert_eq!((code, stderr.as_str()), (0, ""), "{lines:#?}\n{input}");
        assert_eq!(lines, [first.as_str(), second], "{input}");
    }
    for input in [one.to_string(), yaml(&one)] {
        assert_eq!(judge(&[], &input), (0, vec![first.clone()], String::new()), "{input}");
    }
    assert_eq!(judge(&[], &list(&[]).to_string()), (0, vec![], String::new()));
}

#[test]
fn one_fault_is_one_reason() {
    type Change = fn(&mut CertificateRequest);
    let cases: [(Change, &str); 5] = [
        (|bad| bad.spec.is_ca = true, "spec.isCA is true, but a workload is not a CA"),
        (|bad| bad.spec.duration = None, "spec.duration is not set, but must be 1h0m0s"),
        (|bad| bad.spec.issuer_ref.name = "x".to_owned(), "spec.issuerRef is \"ClusterIssuer x of cert-manager.io\""),
        (|bad| bad.spec.username = "system:serviceaccount:shop:thief".to_owned(), "the request asks for "),
        (
            |bad| bad.metadata.owner_references[0].uid = "u-2".to_owned(),
            "the request was created by the pod with UID \"u-1\"",
        ),
    ];
    for (change, reason) in cases {
        let bad = object(change);
        for input in [yaml(&bad), list(&[object(|_| {}), bad.clone()]).to_string()] {
            let (code, lines, _) = judge(&[], &input);
            let denial = lines.last().expect("a line");
            assert!(code == 1 && denial.starts_with(&format!("deny {NAME} {reason}")), "{reason}: {lines:#?}");
            assert!(!denial.contains("; "), "{denial}");
        }
    }
}

#[test]
fn other_requests_are_ignored() {
    let plain = object(|object| object.metadata.annotations.clear());
    let condition = json!([{ "type": "Approved", "status": "True", "reason": "cert-manager.io" }]);
    let mut decided = object(|object| object.spec.is_ca = true);
    decided["status"] = json!({ "conditions": condition });
    let (code, lines, _) = judge(&[], &yaml(&list(&[plain.clone(), decided])));
    let expected =
        ["the request has no annotation spiffe.csi.cert-manager.io/identity", "the request is already approved"];
    assert_eq!((code, lines), (0, expected.map(|reason| format!("ignore {NAME} {reason}")).to_vec()));
    let (code, lines, _) = judge(&["--auto-approve-non-spiffe"], &plain.to_string());
    assert!(code == 1 && lines[0].contains("the request asks for the SPIFFE identity"), "{lines:?}");
}

#[test]
fn the_rules_left_to_the_cluster_are_named() {
    let flags = ["--use-own-service-account", "-driver-service-account", DRIVER, "--metrics-bind-address=:9402"];
    let good = object(|object| object.spec.username = DRIVER.to_owned());
    let (code, lines, stderr) = judge(&flags, &list(&[good.clone(), good]).to_string());
    let open = "not checked without the cluster: pod_missing, pod_uid, pod_account";
    assert_eq!(lines, vec![format!("approve {NAME} it follows every rule that was checked ({open})"); 2]);
    assert_eq!((code, stderr.matches(open).count(), stderr.lines().count()), (0, 1, 2), "{stderr}");
    assert!(stderr.contains("no effect in a dry run: --metrics-bind-address"), "{stderr}");
}

#[test]
fn unreadable_input_is_an_error() {
    let mut bad = object(|_| {});
    bad["spec"]["usages"] = json!("all of them");
    for (input, expected) in [
        (String::new(), "standard input is empty"),
        (list(&[object(|_| {}), bad.clone()]).to_string(), "document 1: items[1].spec.usages: expected sequence"),
        (format!("{}\n---{}", object(|_| {}), yaml(&bad)), "document 2: spec.usages: expected sequence"),
        ("kind: Pod".to_owned(), "document 1: kind: \"Pod\", expected CertificateRequest"),
        ("\"unfinished".to_owned(), "document 1: "),
        (" ".repeat((64 << 20) + 1), "larger than 64 MiB"),
    ] {
        let (code, lines, stderr) = judge(&[], &input);
        assert!(code == 2 && lines.is_empty() && stderr.lines().count() == 1, "{code} {lines:?} {stderr}");
        assert!(stderr.contains(expected), "{stderr}\nexpected {expected}");
    }
}

#[test]
fn the_name_it_is_called_by_selects_the_approver() {
    let dir = tempfile::tempdir().expect("a folder");
    let link = dir.path().join("cert-manager-csi-driver-spiffe-approver");
    symlink(BINARY, &link).expect("a link");
    let (code, lines, stderr) = judge_as(&link, &["--issuer-name=my-spiffe-ca", "--dry-run=maybe"], "");
    assert!(code == 2 && lines.is_empty() && stderr.contains("--dry-run: "), "{stderr}");
    assert_eq!(judge_as(&link, &["--dry-run"], &object(|_| {}).to_string()).0, 0);
}
