use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use svid_csi_core::identity::{KeyUsageProblem, Place, Rejection};
use svid_csi_core::spiffe_id::SpiffeId;

use crate::forge::{
    Authority, BASIC_CONSTRAINTS, ID, KEY_USAGE, NAMES, accepted, der, expected, extension, good, leaf_rejected,
    one_name, rejected, uri,
};

#[test]
fn allows_what_the_standard_allows() {
    let changes: &[fn(&mut CertificateParams)] = &[
        |params| params.subject_alt_names.push(SanType::DnsName("cart.shop.svc".try_into().expect("a name"))),
        |params| params.subject_alt_names.insert(0, SanType::IpAddress([10, 0, 0, 1].into())),
        |params| params.key_usages.extend([KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyAgreement]),
        |params| params.extended_key_usages.clear(),
        |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::Any),
        |params| params.distinguished_name.push(DnType::CommonName, "cart"),
        |params| params.is_ca = IsCa::NoCa,
    ];
    for change in changes {
        accepted(Authority::root(|_| {}).leaf(change));
    }
}

#[test]
fn refuses_a_leaf_with_other_names_than_its_id() {
    assert_eq!(leaf_rejected(|params| params.subject_alt_names.clear()), Rejection::UriNames { found: 0 });
    let dns = SanType::DnsName("cart.shop.svc".try_into().expect("a name"));
    assert_eq!(leaf_rejected(|params| params.subject_alt_names = vec![dns]), Rejection::UriNames { found: 0 });
    for second in [ID, "spiffe://example.org/other", "https://example.org"] {
        let found = leaf_rejected(|params| params.subject_alt_names.push(uri(second)));
        assert_eq!(found, Rejection::UriNames { found: 2 });
    }
    for wrong in
        ["https://example.org/a", "SPIFFE://example.org/a", "spiffe://example.org/a/", "spiffe://example.org:1/a"]
    {
        let found = leaf_rejected(|params| params.subject_alt_names = vec![uri(wrong)]);
        assert!(matches!(found, Rejection::NotASpiffeId { .. }), "{wrong}: {found}");
    }
    let found = leaf_rejected(|params| params.subject_alt_names = vec![uri("spiffe://example.org")]);
    assert!(matches!(found, Rejection::IdWithoutPath { .. }), "{found}");
    for other in ["spiffe://example.org/ns/shop/sa/Cart", "spiffe://example.com/ns/shop/sa/cart"] {
        let found = leaf_rejected(|params| params.subject_alt_names = vec![uri(other)]);
        let (expected, found_id) = (expected().id, SpiffeId::parse(other).expect("a SPIFFE ID"));
        assert_eq!(found, Rejection::WrongId { expected, found: found_id });
    }
}

#[test]
fn refuses_names_that_are_not_critical_without_a_subject() {
    let by_hand = |params: &mut CertificateParams| {
        params.subject_alt_names.clear();
        params.custom_extensions.push(extension(NAMES, false, &one_name(6, ID.as_bytes())));
    };
    assert_eq!(leaf_rejected(by_hand), Rejection::NamesNotCritical);
    accepted(Authority::root(|_| {}).leaf(|params| {
        by_hand(params);
        params.distinguished_name.push(DnType::CommonName, "cart");
    }));
}

#[test]
fn refuses_an_unknown_critical_extension() {
    let found = leaf_rejected(|params| params.custom_extensions.push(extension(&[1, 2, 3, 4], true, &[5, 0])));
    assert!(matches!(found, Rejection::Unreadable { .. } | Rejection::Untrusted { .. }), "{found}");
    assert!(found.to_string().contains("critical extension"), "{found}");
}

#[test]
fn refuses_a_wrong_key_usage() {
    let usage = |usages: &[KeyUsagePurpose]| {
        let usages = usages.to_vec();
        leaf_rejected(|params| params.key_usages = usages)
    };
    let sign = KeyUsagePurpose::DigitalSignature;
    for (found, problem) in [
        (usage(&[]), KeyUsageProblem::Missing),
        (usage(&[KeyUsagePurpose::KeyEncipherment]), KeyUsageProblem::NoDigitalSignature),
        (usage(&[sign, KeyUsagePurpose::KeyCertSign]), KeyUsageProblem::CertSign),
        (usage(&[sign, KeyUsagePurpose::CrlSign]), KeyUsageProblem::CrlSign),
    ] {
        assert_eq!(found, Rejection::KeyUsage { problem });
    }
    let not_critical = leaf_rejected(|params| {
        params.key_usages.clear();
        params.custom_extensions.push(extension(KEY_USAGE, false, &[3, 2, 7, 0x80]));
    });
    assert_eq!(not_critical, Rejection::KeyUsage { problem: KeyUsageProblem::NotCritical });
}

#[test]
fn refuses_an_extended_key_usage_without_both() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
    for (usages, missing) in [
        (vec![ServerAuth], "client"),
        (vec![ClientAuth], "server"),
        (vec![CodeSigning], "client"),
        (vec![Any], "client"),
    ] {
        let found = leaf_rejected(|params| params.extended_key_usages = usages);
        assert_eq!(found, Rejection::ExtendedKeyUsage { missing });
    }
}

#[test]
fn refuses_a_ca_as_a_leaf() {
    let found = leaf_rejected(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    assert_eq!(found, Rejection::LeafIsCa);
}

/// Peers with another parser refuse such a certificate, and with it the chain or bundle that it is in.
#[test]
fn malformed_parts_that_the_parser_skips_are_refused() {
    const SUBJECT_KEY_ID: &[u64] = &[2, 5, 29, 14];
    const AUTHORITY_KEY_ID: &[u64] = &[2, 5, 29, 35];
    let names = |name: &[u8]| [der(0x86, &[ID.as_bytes()]), name.to_vec()].concat();
    let malformed: [(&[u64], Vec<u8>); 10] = [
        (SUBJECT_KEY_ID, vec![5, 0]),
        (SUBJECT_KEY_ID, vec![4, 1, 7, 0]),
        (AUTHORITY_KEY_ID, vec![4, 1, 7]),
        (BASIC_CONSTRAINTS, vec![0x30, 3, 1, 1, 1]),
        (BASIC_CONSTRAINTS, vec![0x30, 3, 2, 1, 0x80]),
        (KEY_USAGE, vec![3, 2, 7, 0x81]),
        (KEY_USAGE, vec![3, 2, 8, 0x80]),
        (NAMES, der(0x30, &[&names(&[0x87, 5, 1, 2, 3, 4, 5])])),
        (NAMES, der(0x30, &[&names(&[0x82, 1, 0xe9])])),
        (NAMES, der(0x30, &[&names(b"\x86\x06a:%4x/")])),
    ];
    for (id, value) in malformed {
        let rejection = leaf_rejected(|params| {
            match id {
                NAMES => params.subject_alt_names.clear(),
                BASIC_CONSTRAINTS => params.is_ca = IsCa::NoCa,
                KEY_USAGE => params.key_usages.clear(),
                _ => {}
            }
            params.custom_extensions.push(extension(id, true, &value));
        });
        let is_refused = matches!(rejection, Rejection::Unreadable { .. } | Rejection::UriNames { .. });
        assert!(is_refused, "{id:?} {value:02x?}: {rejection}");
    }
}

#[test]
fn a_boolean_that_is_not_der_is_refused() {
    let mut candidate = good();
    let mut leaf = candidate.chain[0].to_vec();
    let at = leaf.windows(3).position(|bytes| bytes == [1, 1, 0xff]).expect("a critical extension");
    leaf[at + 2] = 1;
    candidate.chain[0] = leaf.into();
    assert!(matches!(rejected(candidate), Rejection::Unreadable { place: Place::Leaf, .. }));
}
