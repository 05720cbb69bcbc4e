//! What a CSR may ask for.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType,
};
use svid_csi_core::approve::{Verdict, judge};

use super::forge::{
    Csr, EXTENSION_REQUEST, attribute, built, denied_for, extension, extension_request, good_names, names, oid, policy,
    request, seq, tlv,
};
use crate::forge::{ID, one_name, uri};

/// A change of a good request, the class of the only reason for its denial, and a part of its sentence.
type Case = (fn(&mut CertificateParams), &'static str, &'static str);

#[track_caller]
fn approved(csr: Vec<u8>) {
    assert_eq!(judge(&request(csr), &policy()), Verdict::Approve);
}

#[track_caller]
fn denied(csr: Vec<u8>, class: &str, sentence: &str) {
    denied_for(&request(csr), &policy(), class, sentence);
}

#[test]
fn approves_the_csrs_of_both_drivers() {
    approved(built(|_| {}));
    approved(Csr::good().pem());
    let critical = tlv(1, &[0xff]);
    let value = tlv(4, &one_name(6, ID.as_bytes()));
    approved(Csr::with_extensions(&[seq(&[oid(&[0x55, 0x1d, 17]), critical, value])]).pem());
}

#[test]
fn approves_the_usages_every_identity_has() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use KeyUsagePurpose::{DigitalSignature, KeyEncipherment};
    for key_usages in [vec![DigitalSignature], vec![KeyEncipherment], vec![DigitalSignature, KeyEncipherment]] {
        approved(built(|params| params.key_usages = key_usages));
    }
    for usages in [vec![ServerAuth], vec![ClientAuth], vec![ClientAuth, ServerAuth]] {
        approved(built(|params| params.extended_key_usages = usages));
    }
}

#[test]
fn denies_a_subject() {
    let cases: [Case; 4] = [
        (|params| params.distinguished_name.push(DnType::CommonName, "cart"), "subject", r#"subject "CN=cart""#),
        (
            |params| params.distinguished_name.push(DnType::OrganizationName, "system:masters"),
            "subject",
            r#""O=system:masters""#,
        ),
        (|params| params.distinguished_name.push(DnType::OrganizationalUnitName, "shop"), "subject", r#""OU=shop""#),
        (|params| params.distinguished_name.push(DnType::CountryName, "CH"), "subject", r#""C=CH""#),
    ];
    check(&cases);
    // One empty relative name: it shows nothing, but it is not empty.
    denied(Csr::changed(|csr| csr.subject = seq(&[tlv(0x31, &[])])), "subject", "must have none");
    denied(Csr::changed(|csr| csr.subject = seq(&[vec![1, 2, 3]])), "subject", "must have none");
}

#[test]
fn denies_other_names() {
    let cases: [Case; 4] = [
        (
            |params| params.subject_alt_names.push(SanType::DnsName("cart.shop.svc".try_into().expect("a name"))),
            "name",
            r#"DNS name "cart.shop.svc""#,
        ),
        (
            |params| params.subject_alt_names.insert(0, SanType::IpAddress([10, 0, 0, 1].into())),
            "name",
            r#"IP address "\n\x00\x00\x01""#,
        ),
        (
            |params| params.subject_alt_names.push(SanType::Rfc822Name("a@example.org".try_into().expect("a name"))),
            "name",
            r#"email address "a@example.org""#,
        ),
        (
            |params| {
                let name = SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "admin@corp".into()));
                params.subject_alt_names.push(name);
            },
            "name",
            "other name",
        ),
    ];
    check(&cases);
    for (tag, kind) in [(0x88, "registered ID"), (0xa3, "X.400"), (0xa4, "directory name"), (0xa5, "EDI party")] {
        let both = seq(&[tlv(0x86, ID.as_bytes()), tlv(tag, &[5, 0])]);
        denied(Csr::with_extensions(&[names(&both)]).pem(), "name", kind);
    }
}

#[test]
fn denies_no_uri_and_several() {
    let cases: [Case; 3] = [
        (|params| params.subject_alt_names.clear(), "uri_count", "0 URIs"),
        (|params| params.subject_alt_names.push(uri(ID)), "uri_count", "2 URIs"),
        (|params| params.subject_alt_names.insert(0, uri("https://example.org")), "uri_count", "2 URIs"),
    ];
    check(&cases);
    denied(Csr::with_extensions(&[]).pem(), "uri_count", "0 URIs");
    denied(Csr::with_attributes(&[]).pem(), "uri_count", "0 URIs");
    denied(Csr::with_extensions(&[names(&seq(&[]))]).pem(), "uri_count", "0 URIs");
}

#[test]
fn denies_a_uri_that_is_not_a_spiffe_id() {
    let long = format!("{ID}{}", "x".repeat(2048));
    for (uri, problem) in [
        ("https://example.org/ns/shop/sa/cart", "begins with `spiffe://`"),
        ("SPIFFE://example.org/ns/shop/sa/cart", "in lower case"),
        ("spiffe:example.org/ns/shop/sa/cart", "begins with `spiffe://`"),
        ("spiffe:///ns/shop/sa/cart", "trust domain is empty"),
        ("spiffe://Example.org/ns/shop/sa/cart", "not 'E'"),
        ("spiffe://example.org:8080/ns/shop/sa/cart", "not ':'"),
        ("spiffe://user@example.org/ns/shop/sa/cart", "not '@'"),
        ("spiffe://example.org/ns/shop/sa/cart?a=b", "not '?'"),
        ("spiffe://example.org/ns/shop/sa/cart#a", "not '#'"),
        ("spiffe://example.org/ns/shop/sa/cart/", "ends with `/`"),
        ("spiffe://example.org/ns//shop/sa/cart", "empty segment"),
        ("spiffe://example.org/ns/./shop/sa/cart", "segment `.` or `..`"),
        ("spiffe://example.org/ns/other/../shop/sa/cart", "segment `.` or `..`"),
        ("spiffe://example.org/ns/shop/sa/c%61rt", "not '%'"),
        ("spiffe://example.org/ns/shop/sa/cart\0", r"not '\0'"),
        ("spiffe://example.org/ns/shop/sa/cart\n", r"not '\n'"),
        (&long, "at most 2048 bytes"),
    ] {
        let csr = Csr::with_extensions(&[names(&seq(&[tlv(0x86, uri.as_bytes())]))]);
        let mut request = request(csr.pem());
        request.identity = Some(uri.to_owned());
        denied_for(&request, &policy(), "spiffe_id", problem);
    }
    let no_ascii = names(&one_name(6, "spiffe://example.org/ns/shop/sa/c\u{e4}rt".as_bytes()));
    denied(Csr::with_extensions(&[no_ascii]).pem(), "csr_der", "its URI");
}

#[test]
fn denies_other_usages() {
    use ExtendedKeyUsagePurpose::{Any, CodeSigning, ServerAuth};
    use KeyUsagePurpose::{ContentCommitment, CrlSign, DecipherOnly, DigitalSignature, KeyAgreement, KeyCertSign};
    for (usage, bits) in [
        (KeyCertSign, "03020284"),
        (CrlSign, "03020182"),
        (ContentCommitment, "030206c0"),
        (KeyAgreement, "03020388"),
        (DecipherOnly, "0303078080"),
    ] {
        denied(built(|params| params.key_usages = vec![DigitalSignature, usage]), "key_usage", bits);
    }
    for (usage, dotted) in [(CodeSigning, "1.3.6.1.5.5.7.3.3"), (Any, "2.5.29.37.0")] {
        let csr = built(|params| params.extended_key_usages = vec![ServerAuth, usage]);
        denied(csr, "extended_key_usage", dotted);
    }
}

#[test]
fn denies_other_extensions() {
    let cases: [Case; 4] = [
        (|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "csr_ca", "CA certificate"),
        (|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), "csr_ca", "CA certificate"),
        (|params| params.is_ca = IsCa::ExplicitNoCa, "extension", r#""2.5.29.19""#),
        (
            |params| params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])),
            "extension",
            r#""1.2.3.4""#,
        ),
    ];
    check(&cases);
    let ca_in_ber = extension(19, &seq(&[tlv(1, &[1])]));
    denied(Csr::with_extensions(&[good_names(), ca_in_ber]).pem(), "csr_ca", "CA certificate");
    let issuer_names = extension(18, &one_name(2, b"example.org"));
    denied(Csr::with_extensions(&[issuer_names, good_names()]).pem(), "extension", r#""2.5.29.18""#);
}

#[test]
fn denies_repeated_extensions() {
    let other = names(&one_name(6, b"spiffe://example.org/ns/shop/sa/admin"));
    for extensions in [[good_names(), other.clone()], [good_names(), good_names()]] {
        denied(Csr::with_extensions(&extensions).pem(), "extension", r#""2.5.29.17" more than once"#);
    }
    let usage = extension(15, &[3, 2, 7, 0x80]);
    let csr = Csr::with_extensions(&[good_names(), usage.clone(), usage]);
    denied(csr.pem(), "extension", r#""2.5.29.15" more than once"#);
    let requests = [extension_request(&[good_names()]), extension_request(std::slice::from_ref(&other))];
    denied(Csr::with_attributes(&requests).pem(), "attribute", "more than one extension request");
    let two_values = attribute(EXTENSION_REQUEST, &[seq(&[good_names()]), seq(&[other])]);
    denied(Csr::with_attributes(&[two_values]).pem(), "attribute", "more than one extension request");
}

#[test]
fn denies_other_attributes() {
    let password = attribute(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7], &[tlv(12, b"secret")]);
    // The attribute that Microsoft's CAs accept as an extension request.
    let microsoft = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 14];
    let microsoft = attribute(microsoft, &[seq(&[names(&one_name(6, b"spiffe://example.org/admin"))])]);
    for (other, dotted) in [(password, "1.2.840.113549.1.9.7"), (microsoft, "1.3.6.1.4.1.311.2.1.14")] {
        let good = extension_request(&[good_names()]);
        for attributes in [[good.clone(), other.clone()], [other, good]] {
            denied(Csr::with_attributes(&attributes).pem(), "attribute", dotted);
        }
    }
}

#[track_caller]
fn check(cases: &[Case]) {
    for (change, class, sentence) in cases {
        let csr = built(|params| {
            params.distinguished_name = DistinguishedName::new();
            change(params);
        });
        denied(csr, class, sentence);
    }
}
