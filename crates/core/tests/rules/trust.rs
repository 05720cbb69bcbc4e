use std::time::Duration;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, RsaKeySize, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use svid_csi_core::identity::{Candidate, Place, PrivateKey, Rejection};

use crate::forge::{Authority, HOUR, ID, accepted, bundle, good, now, rejected, uri, valid};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn refuses_a_chain_that_does_not_lead_to_the_bundle() {
    let mut stranger = good();
    stranger.bundle = Some(vec![Authority::root(|_| {}).certificate]);
    let found = rejected(stranger).to_string();
    assert!(found.contains("with another key"), "{found}");
    let other_name = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "other");
    let mut stranger = good();
    stranger.bundle = Some(vec![Authority::root(other_name).certificate]);
    let found = rejected(stranger).to_string();
    assert!(found.ends_with("no valid certificate in the bundle issued the chain"), "{found}");
}

#[test]
fn refuses_an_expired_root_and_says_so() {
    let root = Authority::root(|params| valid(params, now() - HOUR, now() - SECOND));
    let found = rejected(root.leaf(|_| {})).to_string();
    assert!(found.contains("1 of 1 certificates in the bundle are expired"), "{found}");
    let mut rotated = good();
    bundle(&mut rotated).insert(0, root.certificate);
    assert_eq!(accepted(rotated).bundle().len(), 2, "a leftover of a rotation does no harm");
}

#[test]
fn verifies_through_intermediates() {
    let root = Authority::root(|_| {});
    let through = |change: fn(&mut CertificateParams)| {
        let intermediate = root.intermediate(change);
        let mut candidate = intermediate.leaf(|_| {});
        candidate.chain.push(intermediate.certificate);
        candidate.bundle = Some(vec![root.certificate.clone()]);
        candidate
    };
    accepted(through(|_| {}));
    accepted(through(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]));
    let mut with_root = through(|_| {});
    with_root.chain.push(root.certificate.clone());
    accepted(with_root);

    let place = Place::Chain { position: 2, of: 2 };
    assert_eq!(rejected(through(|params| params.is_ca = IsCa::ExplicitNoCa)), Rejection::NotACa { place });
    let no_signer = through(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert_eq!(rejected(no_signer), Rejection::NotACa { place });
    for (candidate, reason) in [
        (through(|params| valid(params, now() - HOUR, now() - SECOND)), "an intermediate certificate has expired"),
        (through(|params| valid(params, now() + HOUR, now() + 2 * HOUR)), "is not valid yet"),
        (
            through(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "both client and server",
        ),
    ] {
        let found = rejected(candidate).to_string();
        assert!(found.contains(reason), "{found}");
    }
    let mut missing = through(|_| {});
    missing.chain.pop();
    assert!(matches!(rejected(missing), Rejection::Untrusted { .. }));
}

#[test]
fn refuses_a_bundle_that_trusts_a_leaf() {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    valid(&mut params, now() - HOUR, now() + HOUR);
    params.subject_alt_names = vec![uri(ID)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let own: CertificateDer<'static> = params.self_signed(&key).expect("a certificate").into();
    let key = PrivateKey::from_pkcs8_der(key.serialized_der()).expect("a key");
    let self_signed = Candidate { chain: vec![own.clone()], key, bundle: Some(vec![own]) };
    assert_eq!(rejected(self_signed), Rejection::NotACa { place: Place::Bundle { position: 1, of: 1 } });
}

/// What X509-SVID, section 3.2 requires of signing certificates, and existing CAs lack, is required only of our own.
#[test]
fn accepts_a_signing_certificate_without_an_id_or_a_key_usage() {
    let changes: &[fn(&mut CertificateParams)] = &[
        |params| params.subject_alt_names.clear(),
        |params| params.subject_alt_names = vec![uri("spiffe://example.org/ca")],
        |params| params.subject_alt_names = vec![uri("spiffe://root.example")],
        |params| params.key_usages.clear(),
        |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign],
    ];
    for change in changes {
        accepted(Authority::root(change).leaf(|_| {}));
        let root = Authority::root(|_| {});
        let intermediate = root.intermediate(change);
        let mut candidate = intermediate.leaf(|_| {});
        candidate.chain.push(intermediate.certificate);
        candidate.bundle = Some(vec![root.certificate]);
        accepted(candidate);
    }
    let no_signer = Authority::root(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let place = Place::Bundle { position: 1, of: 1 };
    assert_eq!(rejected(no_signer.leaf(|_| {})), Rejection::NotACa { place }, "one that says so may not sign");
}

#[test]
fn keeps_a_repeated_bundle_certificate_once() {
    let mut candidate = good();
    let (own, other) = (bundle(&mut candidate)[0].clone(), Authority::root(|_| {}).certificate);
    candidate.bundle = Some(vec![other.clone(), own.clone(), other.clone(), own.clone()]);
    assert_eq!(accepted(candidate).bundle(), [other, own]);
}

#[test]
fn verifies_every_kind_of_key() {
    let algorithms: &[&'static SignatureAlgorithm] = &[
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
    ];
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
    for algorithm in algorithms {
        let root = Authority::root_with(algorithm, |_| {});
        accepted(root.leaf_with(&KeyPair::generate_for(algorithm).expect("a key"), |_| {}));
        accepted(root.leaf_with(&rsa, |_| {}));
    }
    accepted(Authority::root_with(&rcgen::PKCS_RSA_SHA256, |_| {}).leaf(|_| {}));
}
