//! Requests that are not ours, where the approver stands in for cert-manager's own.

use rcgen::{DnType, SanType};
use svid_csi_core::approve::{Ignored, Policy, Request, Verdict, judge};

use super::forge::{
    Csr, armour, attribute, built, denied_for, extension_request, good_names, issuer, labelled, names, policy, request,
    seq, tlv,
};
use crate::forge::{ID, uri};

fn auto() -> Policy {
    Policy { auto_approve_non_spiffe: true, ..policy() }
}

/// A request for a web server's certificate, by cert-manager itself.
fn foreign(csr: impl Into<Vec<u8>>) -> Request {
    Request {
        identity: None,
        duration: Some("2160h".to_owned()),
        usages: vec!["server auth".to_owned()],
        is_ca: true,
        issuer: issuer("web", "Issuer", "cert-manager.io"),
        username: "system:serviceaccount:cert-manager:cert-manager".to_owned(),
        ..request(csr)
    }
}

fn web_server() -> Vec<u8> {
    built(|params| {
        params.distinguished_name.push(DnType::CommonName, "spiffe: what it is");
        let dns = SanType::DnsName("www.example.org".try_into().expect("a name"));
        params.subject_alt_names = vec![dns, uri("https://spiffe.example.org")];
    })
}

#[test]
fn are_left_alone_or_approved() {
    assert_eq!(judge(&foreign(web_server()), &policy()), Verdict::Ignore(Ignored::NotOurs));
    assert_eq!(judge(&foreign(web_server()), &auto()), Verdict::Approve);
    let no_issuer = Policy { issuer: None, ..auto() };
    assert_eq!(judge(&foreign(web_server()), &no_issuer), Verdict::Approve);
    // As tools write them, with text around and other labels.
    let der = Csr::with_attributes(&[]).der();
    for text in [
        format!("Certificate Request:\n    Data: -----\n{}", labelled("CERTIFICATE REQUEST", &der)),
        labelled("NEW CERTIFICATE REQUEST", &der),
        labelled("CERTIFICATE REQUEST", &der).replace('\n', "\r\n"),
        labelled("CERTIFICATE REQUEST", &der).replacen("-----\n", "-----\nComment: a test\n\n", 1),
    ] {
        assert_eq!(judge(&foreign(text.clone()), &auto()), Verdict::Approve, "{text}");
    }
}

#[test]
fn are_denied_a_spiffe_id() {
    let sentence = "without the annotation spiffe.csi.cert-manager.io/identity";
    let denied = |csr: Vec<u8>| denied_for(&foreign(csr), &auto(), "unannotated_spiffe", sentence);
    denied(Csr::good().pem());
    for id in ["SPIFFE://example.org/a", "spiffe:a", "spiffe://other/a"] {
        denied(built(|params| params.subject_alt_names.insert(0, uri(id))));
    }
    denied(built(|params| params.subject_alt_names = vec![uri(&format!("{ID}{}", "x".repeat(200)))]));
    denied(built(|params| params.subject_alt_names = vec![uri(&format!("{ID}{}", "x".repeat(2000)))]));
}

#[test]
fn are_denied_a_spiffe_id_wherever_it_is_put() {
    let denied = |csr: Vec<u8>| denied_for(&foreign(csr), &auto(), "unannotated_spiffe", "the SPIFFE identity");
    let empty = extension_request(&[]);
    let hidden = extension_request(&[good_names()]);
    denied(Csr::with_attributes(&[empty.clone(), hidden]).pem());
    let second = attribute(super::forge::EXTENSION_REQUEST, &[seq(&[]), seq(&[good_names()])]);
    denied(Csr::with_attributes(&[second]).pem());
    let microsoft = attribute(&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 14], &[seq(&[good_names()])]);
    denied(Csr::with_attributes(&[empty, microsoft]).pem());
    for id in [ID.to_owned(), format!("{ID}{}", "x".repeat(200)), format!("{ID}{}", "x".repeat(2000))] {
        let constructed = names(&seq(&[tlv(0xa6, id.as_bytes())]));
        denied(Csr::with_extensions(&[constructed]).pem());
    }
    let der = Csr::good().der();
    let harmless = Csr::with_attributes(&[]).der();
    for text in [
        format!("{}{}", labelled("CERTIFICATE REQUEST", &harmless), labelled("X", &der)),
        format!("{}{}", labelled("X", &der), labelled("CERTIFICATE REQUEST", &harmless)),
        labelled("X", &der),
        labelled("CERTIFICATE REQUEST", &der).replace('=', ""),
        labelled("CERTIFICATE REQUEST", &der).replace('\n', "\n \t"),
        labelled("CERTIFICATE REQUEST", &der).replacen("-----\n", "-----\nA: b\n\n", 1),
    ] {
        denied(text.into_bytes());
    }
    denied(armour(&[harmless, der].concat()));
}

#[test]
fn are_denied_when_nobody_can_read_them() {
    for text in ["", "spiffe", "-----BEGIN CERTIFICATE REQUEST-----", "-----BEGIN X-----\nA\n-----END X-----\n"] {
        denied_for(&foreign(text), &auto(), "unannotated_unreadable", "cannot be read");
    }
}

#[test]
fn are_denied_the_issuer_of_identities() {
    for (kind, group) in [("ClusterIssuer", "cert-manager.io"), ("ClusterIssuer", "")] {
        let mut request = foreign(web_server());
        request.issuer = issuer("spiffe-ca", kind, group);
        denied_for(&request, &auto(), "unannotated_issuer", "its issuer is the one of SPIFFE identities");
    }
    let of_namespace = Policy { issuer: Some(issuer("web", "", "")), ..auto() };
    denied_for(&foreign(web_server()), &of_namespace, "unannotated_issuer", "its issuer");
    let mut other_kind = foreign(web_server());
    other_kind.issuer = issuer("spiffe-ca", "Issuer", "cert-manager.io");
    assert_eq!(judge(&other_kind, &auto()), Verdict::Approve);
}
