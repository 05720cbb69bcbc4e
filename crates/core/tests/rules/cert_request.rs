//! Requests to cert-manager, and the meaning of its responses.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use svid_csi_core::approve::{Policy, Request, Verdict, judge};
use svid_csi_core::cert_request::{
    Ask, CertificateRequest, CertificateRequestStatus, IssuerRef, Progress, StatusError, hash_identifier,
};
use svid_csi_core::identity::{KeyType, MAX_CHAIN_BYTES, PemError, PrivateKey, accept};
use svid_csi_core::pod::PodRef;
use svid_csi_core::quoted::Quoted;
use svid_csi_core::request::csr_pem;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::approve::forge::{issuer, labelled, policy};
use crate::forge::{Authority, HOUR, ID, expected};

fn pod() -> PodRef {
    PodRef {
        namespace: "shop".to_owned(),
        name: "cart-0".to_owned(),
        uid: "0d2ee1a9".to_owned(),
        service_account: "cart".to_owned(),
    }
}

/// The object the driver creates for a pod with that key.
fn object(pod: &PodRef, key: &PrivateKey, annotations: &[(&str, &str)], duration: Duration) -> CertificateRequest {
    let trust_domain = TrustDomain::parse("example.org").expect("a trust domain");
    let id = SpiffeId::for_service_account(&trust_domain, &pod.namespace, &pod.service_account).expect("an ID");
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let ask = Ask {
        pod,
        id: &id,
        node_id: "node-1",
        volume_id: "csi-1234",
        issuer: &issuer("spiffe-ca", "ClusterIssuer", "cert-manager.io"),
        duration,
        annotations: &annotations.iter().map(owned).collect(),
        attempt: 1,
        csr_pem: &csr_pem(key, &id).expect("a CSR"),
    };
    ask.object([0xff; 16])
}

#[test]
fn is_written_as_the_predecessor_writes_it() {
    let key = PrivateKey::generate_p256().expect("a key");
    let annotations = [
        ("team", "shop"),
        ("spiffe.csi.cert-manager.io/identity", "spiffe://example.org/admin"),
        ("spiffe.csi.cert-manager.io/other", "x"),
    ];
    let object = object(&pod(), &key, &annotations, HOUR);
    let expected = json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "CertificateRequest",
        "metadata": {
            "name": "ffffffff-ffff-4fff-bfff-ffffffffffff",
            "namespace": "shop",
            "labels": {
                "csi.cert-manager.io/node-id-hash": "9bd6bbf5f",
                "csi.cert-manager.io/volume-id-hash": hash_identifier("csi-1234"),
            },
            "annotations": { "spiffe.csi.cert-manager.io/identity": ID, "team": "shop" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "cart-0", "uid": "0d2ee1a9" }],
        },
        "spec": {
            "request": object.spec.request,
            "duration": "1h0m0s",
            "issuerRef": { "name": "spiffe-ca", "kind": "ClusterIssuer", "group": "cert-manager.io" },
            "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
        },
    });
    let written = serde_json::to_value(&object).expect("JSON");
    assert_eq!(written, expected);
    assert_eq!(serde_json::from_value::<CertificateRequest>(written).expect("an object"), object);
}

#[test]
fn has_a_csr_for_exactly_the_id() {
    for key_type in KeyType::ALL {
        let key = PrivateKey::generate(key_type).expect("a key");
        assert_eq!(key.key_type(), key_type);
        let object = object(&pod(), &key, &[], HOUR);
        let pem = String::from_utf8(STANDARD.decode(object.spec.request).expect("base64")).expect("text");
        let der = pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
        let der = STANDARD.decode(der).expect("base64");
        let (rest, csr) = X509CertificationRequest::from_der(&der).expect("a CSR");
        let info = &csr.certification_request_info;
        assert!(rest.is_empty() && info.subject.iter().next().is_none());
        assert_eq!(info.subject_pki.raw, key.public_key_der());
        let names = [&[0x55, 0x1d, 0x11, 1, 1, 0xff][..]].concat();
        assert!(der.windows(names.len()).any(|window| window == names), "the names are critical");
        assert_eq!(csr.requested_extensions().expect("extensions").count(), 1);
    }
}

fn approvable(object: &CertificateRequest, user: &str, duration: Duration) -> Verdict {
    let mut request = Request::from(object);
    request.username = user.to_owned();
    judge(&request, &Policy { duration, ..policy() })
}

proptest! {
    #[test]
    fn the_approver_approves_every_request_of_the_driver(
        namespace in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        account in "[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?",
        name in "[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?",
        seconds in 1..10_000_000_u64,
    ) {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let pod = PodRef { namespace, name, uid: "1".to_owned(), service_account: account };
        let key = PrivateKey::generate_p256().expect("a key");
        let duration = Duration::from_secs(seconds);
        prop_assert_eq!(approvable(&object(&pod, &key, &[], duration), &user, duration), Verdict::Approve);
    }

    #[test]
    fn names_are_random_uuids(random in any::<[u8; 16]>()) {
        let ask = Ask {
            pod: &pod(),
            id: &SpiffeId::parse(ID).expect("an ID"),
            node_id: "",
            volume_id: "",
            issuer: &IssuerRef::default(),
            duration: HOUR,
            annotations: &BTreeMap::new(),
            attempt: 1,
            csr_pem: "",
        };
        let name = ask.object(random).metadata.name;
        let parts: Vec<_> = name.split('-').map(str::len).collect();
        prop_assert_eq!(parts, [8, 4, 4, 4, 12]);
        prop_assert!(name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')));
        prop_assert!(name.as_bytes()[14] == b'4' && matches!(name.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}

fn status(status: Value) -> CertificateRequestStatus {
    serde_json::from_value(status).expect("a status")
}

#[test]
fn progress_is_read_from_the_conditions() {
    let read =
        |conditions: Value| Progress::read(Some(&status(json!({ "conditions": conditions })))).expect("progress");
    let message = || Quoted::new("because");
    let approved = json!({ "type": "Approved", "status": "True" });
    let ready = |reason| json!({ "type": "Ready", "status": "False", "reason": reason, "message": "because" });
    assert_eq!(Progress::read(None), Ok(Progress::AwaitsApproval));
    for (conditions, progress) in [
        (json!(null), Progress::AwaitsApproval),
        (json!([ready("Pending")]), Progress::AwaitsApproval),
        (json!([{ "type": "Denied", "status": "False", "message": "because" }]), Progress::AwaitsApproval),
        (json!([approved]), Progress::AwaitsIssuer { message: None }),
        (json!([approved, ready("Pending")]), Progress::AwaitsIssuer { message: Some(message()) }),
        (json!([approved, ready("Failed")]), Progress::Failed { message: message() }),
        (json!([ready("Denied")]), Progress::Denied { message: message() }),
        (
            json!([{ "type": "Denied", "status": "True", "message": "because" }, ready("Failed")]),
            Progress::Denied { message: message() },
        ),
        (
            json!([approved, { "type": "InvalidRequest", "status": "True", "message": "because" }]),
            Progress::Invalid { message: message() },
        ),
    ] {
        assert_eq!(read(conditions.clone()), progress, "{conditions}");
    }
}

fn pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|der| labelled("CERTIFICATE", der)).collect()
}

fn issued(certificate: &str, ca: &str) -> Result<Progress, StatusError> {
    let conditions = [json!({ "type": "Approved", "status": "True" }), json!({ "type": "Ready", "status": "True" })];
    Progress::read(Some(&status(json!({ "conditions": conditions, "certificate": certificate, "ca": ca }))))
}

#[test]
fn an_issued_certificate_is_accepted() {
    let root = Authority::root(|_| {});
    let intermediate = root.intermediate(|_| {});
    let candidate = intermediate.leaf(|_| {});
    let chain = [candidate.chain[0].clone(), intermediate.certificate];
    let text = format!("subject=\nissuer=intermediate\n{}", pem(&chain));
    let ca = pem(std::slice::from_ref(&root.certificate));
    let Progress::Issued(issued) = issued(&STANDARD.encode(text), &STANDARD.encode(ca)).expect("certificates") else {
        panic!("it is issued")
    };
    assert_eq!(issued.chain, chain);
    assert_eq!(issued.ca, std::slice::from_ref(&root.certificate));
    let identity = accept(issued.into_candidate(candidate.key, Some(vec![root.certificate])), &expected());
    assert_eq!(identity.expect("an identity").chain(), chain);
}

#[test]
fn an_error_names_the_unreadable_field() {
    let good = STANDARD.encode(pem(&[Authority::root(|_| {}).certificate]));
    let key = STANDARD.encode(labelled("PRIVATE KEY", &[1, 2, 3]));
    let (field, expected) = ("status.certificate", "CERTIFICATE");
    assert!(matches!(issued(&good, ""), Ok(Progress::Issued(issued)) if issued.ca.is_empty()));
    for (certificate, error) in [
        (String::new(), StatusError::Empty),
        ("?".to_owned(), StatusError::Base64 { field }),
        (STANDARD.encode("nothing"), StatusError::Pem { field, problem: PemError::NotPem { expected } }),
        (key.clone(), StatusError::Pem { field, problem: PemError::Label { expected } }),
        ("A".repeat(1 << 20), StatusError::TooLarge { field, bytes: 1 << 20, limit: 2 * MAX_CHAIN_BYTES }),
    ] {
        assert_eq!(issued(&certificate, ""), Err(error));
    }
    let in_ca = issued(&good, &key).expect_err("a key is not a certificate");
    assert_eq!(in_ca.to_string(), "status.ca is not readable: its PEM block is not labelled `CERTIFICATE`");
}
