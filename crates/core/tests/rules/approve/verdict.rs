//! The form of decisions, and how the decisions of others are read.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use svid_csi_core::approve::{CONDITION_REASON, Decision, Ignored, Request, Verdict, condition, judge};
use svid_csi_core::cert_request::CertificateRequest;

use super::forge::{Csr, POD_UID, built, extension, faults, good_names, policy, request};
use crate::forge::{ID, now};

#[test]
fn all_faults_are_reported() {
    let mut bad = request(built(|params| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
        params.subject_alt_names = vec![crate::forge::uri("spiffe://example.org/ns/shop/sa/admin")];
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    }));
    bad.duration = None;
    bad.is_ca = true;
    bad.usages.clear();
    bad.issuer.name = "other".to_owned();
    bad.owners.clear();
    let classes: Vec<_> = faults(&bad, &policy()).into_iter().map(|(class, _)| class).collect();
    let expected = ["subject", "key_usage", "duration", "is_ca", "usages", "issuer", "annotation", "identity", "owner"];
    assert_eq!(classes, expected);
    let Verdict::Deny(reasons) = judge(&bad, &policy()) else { panic!("it is denied") };
    let text = reasons.to_string();
    assert!(
        text.starts_with(r#"the CSR has the subject "O=system:masters", it must have none; the CSR asks"#),
        "{text}"
    );
    assert_eq!(text.matches("; ").count(), 8);
    let short = reasons.message(200);
    assert!(short.len() <= 200 && short.ends_with(" more"), "{short}");
    assert!(reasons.message(0).ends_with("; and 8 more"));
}

#[test]
fn no_fault_is_reported_twice() {
    let twice = built(|params| {
        let dns = || rcgen::SanType::DnsName("cart".try_into().expect("a name"));
        params.subject_alt_names.extend([dns(), dns()]);
    });
    assert_eq!(faults(&request(twice), &policy()).len(), 1);
}

#[test]
fn a_rule_broken_a_hundred_times_is_reported_briefly() {
    let mut extensions = vec![good_names()];
    extensions.extend((100..200).map(|number| extension(number % 128, &[5, 0])));
    let request = request(Csr::with_extensions(&extensions).pem());
    let Verdict::Deny(reasons) = judge(&request, &policy()) else { panic!("it is denied") };
    assert_eq!(reasons.iter().count(), 16);
    assert!(reasons.to_string().ends_with(" more"), "{reasons}");
    let condition = condition(&Verdict::Deny(reasons), now()).expect("a condition");
    assert!(condition.message.len() <= 2048 + "Denied request: ".len());
}

#[test]
fn the_conditions_are_the_predecessors() {
    let good = request(Csr::good().pem());
    let approved = condition(&judge(&good, &policy()), now()).expect("a condition");
    let expected = json!({
        "type": "Approved",
        "status": "True",
        "reason": "spiffe.csi.cert-manager.io",
        "message": "Approved request",
        "lastTransitionTime": "2025-06-15T15:06:40Z",
    });
    assert_eq!(serde_json::to_value(approved).expect("JSON"), expected);
    let denied = judge(&Request { is_ca: true, ..good.clone() }, &policy());
    let denied = condition(&denied, now()).expect("a condition");
    assert_eq!(denied.kind, "Denied");
    assert_eq!(denied.message, "Denied request: spec.isCA is true, but a workload is not a CA");
    assert_eq!(condition(&Verdict::Ignore(Ignored::NotOurs), now()), None);
    assert_eq!(condition(&judge(&super::forge::driver_request(), &super::forge::node_bound()), now()), None);
}

#[test]
fn a_decision_is_final() {
    for approved in [true, false] {
        let decided = |reason: &str| Request {
            decision: Some(Decision { approved, reason: reason.to_owned() }),
            is_ca: true,
            ..request("")
        };
        assert_eq!(judge(&decided("cert-manager.io"), &policy()), Verdict::Ignore(Ignored::Decided { approved }));
        assert_eq!(decided("cert-manager.io").is_approved_by_another(), approved);
        assert!(!decided(CONDITION_REASON).is_approved_by_another());
        assert!(!Request { identity: None, ..decided("cert-manager.io") }.is_approved_by_another());
    }
}

/// An object as the API server returns it.
fn object(conditions: &Value) -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "CertificateRequest",
        "metadata": {
            "name": "b4b0d4a4-4bd2-4d8a-a2f0-54bb8f7d1d33",
            "namespace": "shop",
            "uid": "1a1f5c1e-7a34-4b6b-a0b5-0d4e9b2c1b44",
            "resourceVersion": "1234",
            "creationTimestamp": "2025-06-15T15:06:40Z",
            "annotations": { "spiffe.csi.cert-manager.io/identity": ID },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "cart-0", "uid": POD_UID }],
            "managedFields": [],
        },
        "spec": {
            "request": STANDARD.encode(Csr::good().pem()),
            "duration": "1h0m0s",
            "issuerRef": { "name": "spiffe-ca", "kind": "ClusterIssuer", "group": "cert-manager.io" },
            "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
            "username": "system:serviceaccount:shop:cart",
            "uid": "5b7b3f0e",
            "groups": ["system:serviceaccounts"],
            "extra": { "authentication.kubernetes.io/pod-uid": [POD_UID] },
        },
        "status": { "conditions": conditions },
    })
}

fn read(object: Value) -> Request {
    let object: CertificateRequest = serde_json::from_value(object).expect("an object");
    Request::from(&object)
}

#[test]
fn objects_are_judged_as_they_come() {
    let good = read(object(&json!([])));
    assert_eq!(judge(&good, &policy()), Verdict::Approve);
    assert_eq!(good.created, Some(now()));
    assert_eq!(good.groups, ["system:serviceaccounts"]);
    assert_eq!(good.uid, "5b7b3f0e");
    for (kind, approved) in [("Approved", true), ("Denied", false)] {
        let condition = json!([{ "type": kind, "status": "True", "reason": "cert-manager.io", "message": "" }]);
        let decision = Decision { approved, reason: "cert-manager.io".to_owned() };
        assert_eq!(read(object(&condition)).decision, Some(decision));
        let pending = json!([{ "type": kind, "status": "False", "reason": "cert-manager.io" }]);
        assert_eq!(read(object(&pending)).decision, None);
    }
}

#[test]
fn odd_objects_are_read_and_denied() {
    let changes: [(&str, Value); 6] = [
        ("/spec/request", json!("no base64!")),
        ("/spec/request", json!(null)),
        ("/spec/duration", json!("-1h")),
        ("/spec/usages", json!(null)),
        ("/spec/issuerRef", json!({ "name": "other", "kind": null })),
        ("/metadata/annotations", json!({ "spiffe.csi.cert-manager.io/identity": "" })),
    ];
    for (pointer, value) in changes {
        let mut object = object(&json!([]));
        *object.pointer_mut(pointer).expect("a field") = value;
        assert_eq!(faults(&read(object), &policy()).len(), 1, "{pointer}");
    }
    assert_eq!(read(json!({})).extra, BTreeMap::new());
}
