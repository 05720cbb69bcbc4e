use std::time::Duration;

use proptest::prelude::*;
use rcgen::{CertificateParams, IsCa};
use rustls_pki_types::CertificateDer;
use svid_csi_core::identity::{
    CLOCK_SKEW, Candidate, Expected, MAX_BUNDLE_BYTES, MAX_CHAIN_BYTES, Place, PrivateKey, Rejection, accept,
    accept_any_chain, leads_to,
};

use crate::forge::{
    Authority, BASIC_CONSTRAINTS, HOUR, ID, KEY_USAGE, NAMES, accepted, bundle, expected, extension, good,
    leaf_rejected, now, one_name, rejected,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn trusts_the_issuer_without_a_bundle() {
    let without = || Candidate { bundle: None, ..good() };
    let identity = accepted(without());
    assert!(identity.bundle().is_empty());
    let mut other_key = without();
    other_key.key = good().key;
    assert_eq!(rejected(other_key), Rejection::KeyMismatch);
}

#[test]
fn knows_whether_a_chain_leads_to_another_bundle() {
    let root = Authority::root(|_| {});
    let identity = accepted(root.leaf(|_| {}));
    let other = Authority::root(|_| {}).certificate;
    assert_eq!(leads_to(identity.chain(), &[other.clone(), root.certificate], now()), Ok(()));
    for bundle in [&[other][..], &[]] {
        assert!(matches!(leads_to(identity.chain(), bundle, now()), Err(Rejection::Untrusted { .. })));
    }
}

#[test]
fn accepts_a_chain_that_leads_elsewhere_if_asked_to() {
    let mut stranger = good();
    let chain = stranger.chain.clone();
    stranger.bundle = Some(vec![Authority::root(|_| {}).certificate]);
    let identity = accept_any_chain(stranger, &expected()).expect("every other rule is kept");
    assert_eq!((identity.chain(), identity.bundle().len()), (&chain[..], 1));
    assert!(matches!(identity.untrusted(), Some(Rejection::Untrusted { .. })));
    assert!(accept_any_chain(good(), &expected()).expect("good").untrusted().is_none());
    let other_key = Candidate { key: good().key, ..good() };
    assert_eq!(accept_any_chain(other_key, &expected()).err(), Some(Rejection::KeyMismatch));
}

#[test]
fn accepts_a_good_identity_unchanged() {
    let root = Authority::root(|_| {});
    let candidate = root.leaf(|params| params.serial_number = Some(vec![0x8f, 0, 1].into()));
    let (chain, key) = (candidate.chain.clone(), candidate.key.der().to_vec());
    let identity = accepted(candidate);
    assert_eq!(identity.id().as_str(), ID);
    assert_eq!(identity.chain(), chain);
    assert_eq!(identity.key().der(), key);
    assert_eq!(identity.bundle(), [root.certificate]);
    assert_eq!(identity.serial(), "8f0001");
    assert_eq!(identity.validity().not_before, now() - 10 * SECOND);
    assert_eq!(identity.validity().not_after, now() + HOUR);
    assert_eq!(identity.held().not_before, now(), "it is held from when it came");
    assert_eq!(identity.held().not_after, now() + HOUR);
}

#[test]
fn refuses_malformed_certificates() {
    let malformed: &[fn(&mut CertificateParams)] = &[
        |params| params.custom_extensions.push(extension(NAMES, true, &one_name(6, ID.as_bytes()))),
        |params| {
            params.subject_alt_names.clear();
            params.custom_extensions.push(extension(NAMES, true, &one_name(6, b"spiffe://\xff/a")));
        },
        |params| {
            params.is_ca = IsCa::NoCa;
            params.custom_extensions.push(extension(BASIC_CONSTRAINTS, true, &[0x30, 1, 0]));
        },
        |params| {
            params.key_usages.clear();
            params.custom_extensions.push(extension(KEY_USAGE, true, &[4, 1, 0]));
        },
    ];
    for (index, change) in malformed.iter().enumerate() {
        let found = leaf_rejected(change);
        assert!(matches!(found, Rejection::Unreadable { place: Place::Leaf, .. }), "{index}: {found}");
    }
    let mut longer = good();
    longer.chain[0] = [longer.chain[0].as_ref(), &[0]].concat().into();
    assert!(matches!(rejected(longer), Rejection::Unreadable { place: Place::Leaf, .. }));
    let mut unused = good();
    let root = bundle(&mut unused)[0].clone();
    unused.chain.push([root.as_ref(), &[0]].concat().into());
    assert!(matches!(rejected(unused), Rejection::Unreadable { place: Place::Chain { position: 2, of: 2 }, .. }));
    let mut odd = good();
    bundle(&mut odd).push(vec![0x30, 0].into());
    assert!(matches!(rejected(odd), Rejection::Unreadable { place: Place::Bundle { position: 2, of: 2 }, .. }));
}

#[test]
fn refuses_the_key_of_another_certificate() {
    let root = Authority::root(|_| {});
    let mut candidate = root.leaf(|_| {});
    candidate.key = PrivateKey::generate_p256().expect("a key");
    assert_eq!(rejected(candidate), Rejection::KeyMismatch);
    let mut candidate = root.leaf(|_| {});
    candidate.key = PrivateKey::from_pem(&root.key_pem()).expect("a key");
    assert_eq!(rejected(candidate), Rejection::KeyMismatch);
}

#[test]
fn refuses_certificates_that_are_expired_or_not_valid_yet() {
    let (not_before, not_after) = (now() - 10 * SECOND, now() + HOUR);
    let root = Authority::root(|_| {});
    let at = |now| accept(root.leaf(|_| {}), &Expected { now, ..expected() });
    assert!(at(not_after).is_ok(), "the last moment counts");
    assert_eq!(at(not_after + SECOND).err(), Some(Rejection::Expired { not_after, now: not_after + SECOND }));
    let ahead = at(not_before - CLOCK_SKEW).expect("the issuer's clock may be ahead by the skew");
    assert_eq!(ahead.held(), ahead.validity());
    let early = not_before - CLOCK_SKEW - SECOND;
    assert_eq!(at(early).err(), Some(Rejection::NotYetValid { not_before, now: early }));
}

#[test]
fn refuses_chains_and_bundles_that_are_empty_or_too_large() {
    let with = |change: fn(&mut Candidate)| {
        let mut candidate = good();
        change(&mut candidate);
        rejected(candidate)
    };
    assert_eq!(with(|candidate| candidate.chain.clear()), Rejection::EmptyChain);
    assert_eq!(with(|candidate| bundle(candidate).clear()), Rejection::EmptyBundle);
    let long_chain = with(|candidate| candidate.chain.push(vec![0; MAX_CHAIN_BYTES].into()));
    assert!(matches!(long_chain, Rejection::TooLarge { what: "certificate chain", .. }), "{long_chain}");
    let at_the_limit = with(|candidate| {
        let left = MAX_CHAIN_BYTES - candidate.chain[0].len();
        candidate.chain.push(vec![0; left].into());
    });
    assert!(matches!(at_the_limit, Rejection::Unreadable { .. }), "{at_the_limit}");
    let large_bundle = with(|candidate| bundle(candidate).push(vec![0; MAX_BUNDLE_BYTES].into()));
    assert!(matches!(large_bundle, Rejection::TooLarge { what: "trust bundle", .. }), "{large_bundle}");
}

#[test]
fn recognises_an_unchanged_bundle() {
    let root = Authority::root(|_| {});
    let other = Authority::root(|_| {}).certificate;
    let first = root.leaf(|_| {});
    let again = |bundle: Vec<CertificateDer<'static>>| {
        let key = PrivateKey::from_pkcs8_der(first.key.der()).expect("a key");
        accepted(Candidate { chain: first.chain.clone(), key, bundle: Some(bundle) }).bundle_digest()
    };
    let identity = again(vec![root.certificate.clone(), other.clone()]);
    assert_eq!(identity, again(vec![other, root.certificate.clone()]));
    assert_ne!(identity, again(vec![root.certificate.clone()]));
}

#[test]
fn shows_no_key_when_printed() {
    let candidate = good();
    let pem = candidate.key.to_pem();
    let body = pem.lines().nth(1).expect("a line").to_owned();
    let bytes = format!("{:?}", &candidate.key.der()[36..44]);
    let candidate_text = format!("{candidate:?}");
    let identity = accepted(candidate);
    for text in [candidate_text, format!("{identity:?} {identity:#?}"), format!("{:?}", identity.key())] {
        assert!(!text.contains(&body) && !text.contains(bytes.trim_matches(['[', ']'])), "{text}");
    }
    assert_eq!(format!("{:?}", identity.key()), "PrivateKey(redacted)");
}

proptest! {
    #[test]
    fn every_bit_of_the_leaf_counts(byte in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut candidate = good();
        let mut der = candidate.chain[0].to_vec();
        let index = byte.index(der.len());
        der[index] ^= 1 << bit;
        candidate.chain[0] = der.into();
        prop_assert!(accept(candidate, &expected()).is_err(), "byte {index}, bit {bit}");
    }

    #[test]
    fn never_panics_on_garbage(leaf in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let mut garbage = good();
        garbage.chain[0] = leaf.clone().into();
        prop_assert!(accept(garbage, &expected()).is_err());
        let mut garbage = good();
        garbage.bundle = Some(vec![leaf.into()]);
        prop_assert!(accept(garbage, &expected()).is_err());
        let mut short = good();
        let length = cut.index(short.chain[0].len());
        short.chain[0] = short.chain[0][..length].to_vec().into();
        prop_assert!(accept(short, &expected()).is_err());
    }
}
