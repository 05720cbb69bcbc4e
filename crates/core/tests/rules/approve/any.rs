//! Generated CSRs: an approved one holds only what is allowed, as another parser sees it.

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use svid_csi_core::approve::{Policy, Request, Verdict, judge};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::forge::{Csr, armour, built_with, driver_request, faults, node_bound, own_account, policy, request};
use crate::forge::{ID, uri};

/// Reads a CSR with the other parser, and returns everything in it that is not allowed.
fn excess(pem: &[u8]) -> Vec<String> {
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem).expect("PEM");
    let (rest, csr) = X509CertificationRequest::from_der(&der).expect("a CSR");
    let info = &csr.certification_request_info;
    let mut excess = Vec::new();
    let extensions: Vec<_> = csr.requested_extensions().into_iter().flatten().collect();
    let mut expect = |ok: bool, what: &dyn std::fmt::Debug| {
        if !ok {
            excess.push(format!("{what:?}"))
        }
    };
    expect(rest.is_empty(), &"trailing bytes");
    expect(info.subject.iter().next().is_none(), &info.subject);
    expect(info.attributes().len() == 1, &info.attributes());
    let names = extensions.iter().filter(|one| matches!(one, ParsedExtension::SubjectAlternativeName(_)));
    expect(names.count() == 1, &extensions);
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else {
            expect(false, &attribute);
            continue;
        };
        for extension in &request.extensions {
            let allowed = match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => names.general_names == [GeneralName::URI(ID)],
                ParsedExtension::KeyUsage(usage) => usage.flags & !0b101 == 0,
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let others = usage.any || usage.code_signing || usage.email_protection || usage.time_stamping;
                    !others && !usage.ocsp_signing && usage.other.is_empty()
                }
                _ => false,
            };
            expect(allowed, &extension);
        }
        let oids: std::collections::BTreeSet<_> = request.extensions.iter().map(|e| e.oid.to_id_string()).collect();
        expect(oids.len() == request.extensions.len(), &oids);
    }
    excess
}

#[track_caller]
fn agrees(csr: &[u8]) -> bool {
    let approved = judge(&request(csr), &policy()) == Verdict::Approve;
    if approved {
        assert_eq!(excess(csr), Vec::<String>::new());
    }
    approved
}

fn any_name() -> impl Strategy<Value = SanType> {
    prop_oneof![
        4 => Just(uri(ID)),
        1 => Just(uri("spiffe://example.org/ns/shop/sa/admin")),
        1 => Just(SanType::DnsName("cart".try_into().expect("a name"))),
        1 => Just(SanType::IpAddress([10, 0, 0, 1].into())),
    ]
}

fn any_params() -> impl Strategy<Value = CertificateParams> {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, OcspSigning, ServerAuth};
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign, KeyEncipherment};
    let key_usages = vec![DigitalSignature, DigitalSignature, KeyEncipherment, KeyAgreement, KeyCertSign, CrlSign];
    let usages = vec![ServerAuth, ServerAuth, ClientAuth, ClientAuth, CodeSigning, Any, OcspSigning];
    let is_ca = prop_oneof![
        8 => Just(IsCa::NoCa),
        1 => Just(IsCa::ExplicitNoCa),
        1 => Just(IsCa::Ca(BasicConstraints::Unconstrained)),
    ];
    let names = prop_oneof![2 => Just(vec![uri(ID)]), 1 => prop::collection::vec(any_name(), 0..3)];
    let key_usages = prop_oneof![Just(vec![]), prop::sample::subsequence(key_usages, 0..3)];
    let usages = prop_oneof![Just(vec![]), prop::sample::subsequence(usages, 0..3)];
    (names, key_usages, usages, is_ca, prop::option::weighted(0.1, "[a-z]{1,8}")).prop_map(
        |(names, key_usages, usages, is_ca, subject)| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            if let Some(subject) = subject {
                params.distinguished_name.push(DnType::OrganizationName, subject);
            }
            params.subject_alt_names = names;
            params.key_usages = key_usages;
            params.extended_key_usages = usages;
            params.is_ca = is_ca;
            params
        },
    )
}

#[test]
fn the_other_parser_accepts_a_good_csr() {
    assert!(agrees(&Csr::good().pem()));
    let with_subject = Csr::changed(|csr| csr.subject = super::forge::seq(&[super::forge::tlv(0x31, &[])]));
    assert!(!agrees(&with_subject));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn of_the_csrs_of_a_builder_only_the_allowed_are_approved(params in any_params()) {
        let key = KeyPair::generate().expect("a key");
        let csr = built_with(&key, |all| *all = params);
        let approved = judge(&request(csr.clone()), &policy()) == Verdict::Approve;
        prop_assert_eq!(approved, excess(&csr).is_empty(), "{:?} {:?}", excess(&csr), faults(&request(csr), &policy()));
    }

    /// The signature is made after the change, so it is valid.
    #[test]
    fn no_edit_of_the_signed_part_adds_content(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let good = Csr::good();
        let mut info = good.info();
        for (index, byte) in changes {
            let index = index.index(info.len());
            info[index] = byte;
        }
        agrees(&armour(&good.around(info)));
    }

    #[test]
    fn no_splice_of_the_signed_part_adds_content(
        at in any::<prop::sample::Index>(),
        cut in 0..8_usize,
        more in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let good = Csr::good();
        let mut info = good.info();
        let at = at.index(info.len());
        let end = info.len().min(at + cut);
        info.splice(at..end, more);
        agrees(&armour(&good.around(info)));
    }

    #[test]
    fn every_bit_counts(index in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut der = Csr::good().der();
        let index = index.index(der.len());
        der[index] ^= 1 << bit;
        prop_assert_ne!(judge(&request(armour(&der)), &policy()), Verdict::Approve, "byte {}, bit {}", index, bit);
    }

    #[test]
    fn nothing_panics(
        der in prop::collection::vec(any::<u8>(), 0..300),
        text in prop::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let good = Csr::good().der();
        let short = armour(&good[..cut.index(good.len())]);
        let followed = [&Csr::good().pem(), &*text].concat();
        let after = String::from_utf8_lossy(&text).replace("\r\n", "\n");
        let is_followed = !after.bytes().all(|byte| b" \t\n".contains(&byte));
        for (csr, is_bad) in [(armour(&der), true), (text, true), (short, true), (followed, is_followed)] {
            prop_assert_eq!(judge(&request(csr.clone()), &policy()) != Verdict::Approve, is_bad);
            let auto = Policy { auto_approve_non_spiffe: true, ..policy() };
            judge(&Request { identity: None, ..request(csr) }, &auto);
        }
    }

    #[test]
    fn untrusted_text_is_cut_and_escaped(text in "\\PC{0,300}|[\\x00-\\x7f]{0,300}") {
        let named = |text: &str| {
            built_with(&KeyPair::generate().expect("a key"), |params| {
                params.distinguished_name.push(DnType::CommonName, text);
                let ascii: String = text.chars().filter(char::is_ascii).collect();
                params.subject_alt_names.extend([uri(&ascii), SanType::DnsName((&*ascii).try_into().expect("ASCII"))]);
            })
        };
        let mut odd = Request { csr: named(&text), ..driver_request() };
        odd.duration = Some(text.clone());
        odd.usages = vec![text.clone()];
        odd.issuer.name = text.clone();
        odd.username = text.clone();
        odd.identity = Some(text.clone());
        odd.owners[0].name = text.clone();
        odd.owners[0].uid = text.clone();
        odd.namespace = text.clone();
        for values in odd.extra.values_mut() {
            *values = vec![text.clone()];
        }
        let mut one_uri = odd.clone();
        one_uri.csr = built_with(&KeyPair::generate().expect("a key"), |params| params.subject_alt_names = vec![uri(ID)]);
        for request in [odd, one_uri] {
            for policy in [policy(), own_account(), node_bound()] {
                for (_, sentence) in faults(&request, &policy) {
                    prop_assert!(sentence.len() <= 512, "{}", sentence);
                    prop_assert!(sentence.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{:?}", sentence);
                }
            }
        }
    }
}
