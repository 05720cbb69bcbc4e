//! Requests that are not ours, if the approver replaces cert-manager's own.

use rcgen::{DnType, SanType};
use svid_csi_core::approve::{Ignored, MAX_PEM_BYTES, Policy, Request, Verdict, judge};

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
    let der = Csr::with_attributes(&[]).der();
    for text in [
        labelled("NEW CERTIFICATE REQUEST", &der),
        labelled("CERTIFICATE REQUEST", &der).replace('\n', "\r\n"),
        format!("{} \t\r\n\n", labelled("CERTIFICATE REQUEST", &der).trim_end()),
    ] {
        assert_eq!(judge(&foreign(text.clone()), &auto()), Verdict::Approve, "{text}");
    }
    let long = built(|params| {
        let names = (0..400).map(|n| SanType::DnsName(format!("web-{n:030}.example.org").try_into().expect("a name")));
        params.subject_alt_names = names.collect();
    });
    assert!(long.len() > MAX_PEM_BYTES, "longer than any CSR for an identity");
    assert_eq!(judge(&foreign(long), &auto()), Verdict::Approve);
}

#[test]
fn are_pending_until_an_issuer_is_known() {
    let no_issuer = Policy { issuer: None, ..auto() };
    assert_eq!(judge(&foreign(web_server()), &no_issuer), Verdict::Ignore(Ignored::NoIssuer));
    denied_for(&foreign(Csr::good().pem()), &no_issuer, "unannotated_spiffe", "the SPIFFE identity");
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
    denied(labelled("NEW CERTIFICATE REQUEST", &Csr::good().der()).into_bytes());
}

/// Parsers differ in what they skip, and the issuer's parser must not find a different CSR.
#[test]
fn are_denied_when_they_are_not_one_plain_block() {
    let harmless = Csr::with_attributes(&[]).der();
    let (plain, spiffe) =
        (labelled("CERTIFICATE REQUEST", &harmless), labelled("CERTIFICATE REQUEST", &Csr::good().der()));
    for text in [String::new(), "spiffe".to_owned(), "-----BEGIN CERTIFICATE REQUEST-----".to_owned()]
        .into_iter()
        .chain([&plain, &spiffe].into_iter().flat_map(|pem| not_one_block(pem, &spiffe)))
    {
        denied_for(&foreign(text), &auto(), "unannotated_unreadable", "cannot determine");
    }
    denied_for(&foreign(armour(&[harmless, Csr::good().der()].concat())), &auto(), "unannotated_unreadable", "follow");
}

fn not_one_block(pem: &str, other: &str) -> Vec<String> {
    let with_header = |header: &str| pem.replacen("-----\n", &format!("-----\n{header}\n"), 1);
    vec![
        with_header("X: -----"),
        with_header("X: -----END CERTIFICATE REQUEST-----\n"),
        with_header("Comment: a test\n"),
        with_header(":"),
        format!("{pem}{other}"),
        format!("{other}{pem}"),
        format!("{}{pem}", labelled("X", b"x")),
        format!("{}\u{c}\n", pem.trim_end()),
        format!("{}\r", pem.trim_end()),
        format!("{pem}see above\n"),
        format!("Certificate Request:\n    Data: -----\n{pem}"),
        format!("\n{pem}"),
        pem.replace("CERTIFICATE REQUEST", "X"),
        pem.replacen("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", 1),
        pem.replacen("-----\n", "----- \n", 1),
        pem.replacen("-----\n", "-----\r", 1),
        pem.replacen("\n-----END", "-----END", 1),
        pem.replace('\n', "\n \t"),
    ]
}

#[test]
fn are_denied_the_issuer_of_identities() {
    for (kind, group) in [("ClusterIssuer", "cert-manager.io"), ("ClusterIssuer", "")] {
        let mut request = foreign(web_server());
        request.issuer = issuer("spiffe-ca", kind, group);
        denied_for(
            &request,
            &auto(),
            "unannotated_issuer",
            "the request's issuer is or was the issuer of SPIFFE identities",
        );
    }
    let of_namespace = Policy { issuer: Some(issuer("web", "", "")), ..auto() };
    denied_for(&foreign(web_server()), &of_namespace, "unannotated_issuer", "the request's issuer");
    let mut other_kind = foreign(web_server());
    other_kind.issuer = issuer("spiffe-ca", "Issuer", "cert-manager.io");
    assert_eq!(judge(&other_kind, &auto()), Verdict::Approve);
    let switched =
        Policy { issuer: Some(issuer("new", "", "")), former_issuers: vec![issuer("web", "", "")], ..auto() };
    denied_for(&foreign(web_server()), &switched, "unannotated_issuer", "issuer is or was");
    let none = Policy { issuer: None, ..switched };
    denied_for(&foreign(web_server()), &none, "unannotated_issuer", "issuer is or was");
}
