use std::time::SystemTime;

use rcgen::{CertificateParams, DnType, IsCa};
use rustls_pki_types::CertificateDer;
use svid_csi_core::identity::{Rejection, peer_id};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};

use crate::forge::{Authority, HOUR, ID, now, uri};

/// The SPIFFE ID of a chain, for a verifier that has the bundle of one trust domain.
fn seen_by(
    trust_domain: &str,
    bundle: &[CertificateDer<'static>],
    chain: &[CertificateDer<'_>],
    at: SystemTime,
) -> Result<SpiffeId, Rejection> {
    let trust_domain = TrustDomain::parse(trust_domain).expect("a name");
    peer_id(chain, |of| (*of == trust_domain).then_some(bundle), at)
}

fn of_root(change: fn(&mut CertificateParams), at: SystemTime) -> Result<SpiffeId, Rejection> {
    let root = Authority::root(|_| {});
    seen_by("example.org", std::slice::from_ref(&root.certificate), &root.leaf(change).chain, at)
}

#[test]
fn a_peer_is_identified_by_its_certificate() {
    assert_eq!(of_root(|_| {}, now()).map(|id| id.to_string()), Ok(ID.to_owned()));
}

#[test]
fn a_peers_certificate_must_comply_with_the_rules() {
    assert!(matches!(of_root(|_| {}, now() + 2 * HOUR), Err(Rejection::Expired { .. })));
    assert!(matches!(of_root(|_| {}, now() - HOUR), Err(Rejection::NotYetValid { .. })));
    let two = of_root(|params| params.subject_alt_names.push(uri(ID)), now());
    assert_eq!(two, Err(Rejection::UriNames { found: 2 }));
    assert_eq!(seen_by("example.org", &[], &[], now()), Err(Rejection::EmptyChain));
}

#[test]
fn a_signing_certificate_cannot_authenticate() {
    let root = Authority::root(|_| {});
    let bundle = [root.certificate.clone()];
    let with_path = root.intermediate(|params| params.subject_alt_names = vec![uri(ID)]);
    for chain in [&bundle[..], &[with_path.certificate]] {
        seen_by("example.org", &bundle, chain, now()).expect_err("a CA");
    }
    assert!(of_root(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained), now()).is_err());
}

#[test]
fn only_the_bundle_of_its_own_trust_domain_counts() {
    let root = Authority::root(|_| {});
    let chain = root.leaf(|_| {}).chain;
    let foreign = seen_by("other.org", std::slice::from_ref(&root.certificate), &chain, now());
    assert_eq!(foreign, Err(Rejection::NoBundle { trust_domain: TrustDomain::parse("example.org").expect("a name") }));
    let other = Authority::root(|params| params.distinguished_name.push(DnType::CommonName, "other"));
    let untrusted = seen_by("example.org", &[other.certificate], &chain, now());
    assert!(matches!(untrusted, Err(Rejection::Untrusted { .. })));
    assert!(matches!(seen_by("example.org", &[], &chain, now()), Err(Rejection::Untrusted { .. })));
}
