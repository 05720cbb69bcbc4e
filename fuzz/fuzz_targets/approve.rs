//! The approver's parser: for any input as a CSR, it does not panic and prints only ASCII, and according to another
//! parser, an approved CSR has only allowed content.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use svid_csi_core::approve::{Mode, Policy, Request, Verdict, judge};
use svid_csi_core::cert_request::{IssuerRef, USAGES};
use svid_csi_core::identity::KeyType;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_fuzz::ID;
use svid_csi_fuzz::csr::{armour, edited, signed};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

// The first byte selects the meaning of the others.
fuzz_target!(|input: &[u8]| {
    match input {
        [0, text @ ..] => check(text.to_vec()),
        [1, der @ ..] => check(armour(der)),
        [2, info @ ..] => check(armour(&signed(info.to_vec()))),
        [_, edits @ ..] => check(armour(&signed(edited(edits)))),
        [] => {}
    }
});

fn check(csr: Vec<u8>) {
    let request = Request { identity: Some(ID.to_owned()), csr: csr.clone(), ..GOOD.clone() };
    let verdict = judge(&request, &POLICY);
    if let Verdict::Deny(reasons) = &verdict {
        let text = reasons.to_string();
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
    }
    if verdict == Verdict::Approve {
        assert_nothing_beyond(&csr);
    }
    let others = judge(&Request { identity: None, ..request }, &POLICY);
    let asks_for_an_id = verdict == Verdict::Approve;
    assert!(!asks_for_an_id || matches!(others, Verdict::Deny(_)), "an ID without the annotation");
}

fn assert_nothing_beyond(pem: &[u8]) {
    let text = std::str::from_utf8(pem).expect("text");
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(base64).expect("base64");
    let (rest, csr) = X509CertificationRequest::from_der(&der).expect("a CSR");
    let info = &csr.certification_request_info;
    assert!(rest.is_empty() && info.subject.iter().next().is_none());
    let [attribute] = info.attributes() else { panic!("one attribute") };
    let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else { panic!("extensions") };
    for extension in &request.extensions {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => assert_eq!(names.general_names, [GeneralName::URI(ID)]),
            ParsedExtension::KeyUsage(usage) => assert_eq!(usage.flags & !0b101, 0),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let others = usage.any || usage.code_signing || usage.email_protection || usage.time_stamping;
                assert!(!others && !usage.ocsp_signing && usage.other.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }
}

static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy {
    driver_name: "spiffe.csi.cert-manager.io".to_owned(),
    trust_domain: TrustDomain::parse("example.org").expect("a trust domain"),
    duration: Duration::from_secs(3600),
    issuer: Some(IssuerRef { name: "spiffe-ca".to_owned(), ..IssuerRef::default() }),
    former_issuers: Vec::new(),
    mode: Mode::Pod,
    key_types: KeyType::ALL.into(),
    auto_approve_non_spiffe: true,
});

static GOOD: LazyLock<Request> = LazyLock::new(|| Request {
    namespace: "shop".to_owned(),
    duration: Some("1h".to_owned()),
    usages: USAGES.map(str::to_owned).to_vec(),
    issuer: IssuerRef { name: "spiffe-ca".to_owned(), ..IssuerRef::default() },
    username: "system:serviceaccount:shop:cart".to_owned(),
    ..Request::default()
});
