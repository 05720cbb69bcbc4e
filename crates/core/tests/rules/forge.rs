//! Creates certificates, good and bad.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use svid_csi_core::identity::{Candidate, Expected, Identity, PrivateKey, Rejection, accept};
use svid_csi_core::spiffe_id::SpiffeId;

pub(crate) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The time at which all tests take place.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_750_000_000)
}

pub(crate) fn expected() -> Expected {
    Expected { id: SpiffeId::parse(ID).expect("a SPIFFE ID"), now: now() }
}

pub(crate) fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("ASCII"))
}

pub(crate) fn accepted(candidate: Candidate) -> Identity {
    accept(candidate, &expected()).expect("it keeps every rule")
}

pub(crate) fn rejected(candidate: Candidate) -> Rejection {
    accept(candidate, &expected()).expect_err("it breaks a rule")
}

/// The rejection of a leaf that is changed before it is signed.
pub(crate) fn leaf_rejected(change: impl FnOnce(&mut CertificateParams)) -> Rejection {
    rejected(Authority::root(|_| {}).leaf(change))
}

/// A CA, with everything it needs for signing.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A proper root, changed before it is signed.
    pub(crate) fn root(change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::root_with(&PKCS_ECDSA_P256_SHA256, change)
    }

    pub(crate) fn root_with(
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let mut params = ca_params("root");
        change(&mut params);
        let certificate = params.self_signed(&key).expect("a root").into();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A proper intermediate CA under this one, changed before it is signed.
    pub(crate) fn intermediate(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = ca_params("intermediate");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("an intermediate").into();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A proper leaf for [`ID`], changed before it is signed, with this CA as the bundle.
    pub(crate) fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Candidate {
        self.leaf_with(&KeyPair::generate().expect("a key"), change)
    }

    pub(crate) fn leaf_with(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Candidate {
        let mut params = leaf_params();
        change(&mut params);
        let leaf = params.signed_by(key, &self.issuer).expect("a leaf").into();
        let key = PrivateKey::from_pkcs8_der(key.serialized_der()).expect("PKCS#8");
        Candidate { chain: vec![leaf], key, bundle: Some(vec![self.certificate.clone()]) }
    }

    /// The key of the CA, which no leaf should have.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
}

/// The bundle of a candidate that has one.
pub(crate) fn bundle(candidate: &mut Candidate) -> &mut Vec<CertificateDer<'static>> {
    candidate.bundle.as_mut().expect("a bundle")
}

/// The good candidate; each of the others differs from it in one thing.
pub(crate) fn good() -> Candidate {
    Authority::root(|_| {}).leaf(|_| {})
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    valid(&mut params, now() - HOUR, now() + 24 * HOUR);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri("spiffe://example.org")];
    params
}

fn leaf_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    valid(&mut params, now() - Duration::from_secs(10), now() + HOUR);
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![uri(ID)];
    params
}

pub(crate) fn valid(params: &mut CertificateParams, from: SystemTime, until: SystemTime) {
    params.not_before = from.into();
    params.not_after = until.into();
}

/// An extension the builder would not write like this.
pub(crate) fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

pub(crate) const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
pub(crate) const NAMES: &[u64] = &[2, 5, 29, 17];
pub(crate) const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];

/// The contents of a subject alternative name with one name of the given tag (6 is a URI, 2 a DNS name).
pub(crate) fn one_name(tag: u8, name: &[u8]) -> Vec<u8> {
    let len = u8::try_from(name.len()).expect("a short name");
    [&[0x30, len + 2, 0x80 | tag, len], name].concat()
}

/// Any element in DER of under 64 KiB.
pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).expect("a short one").to_be_bytes();
    let length = match length {
        [0, short @ ..0x80] => vec![short],
        [0, long] => vec![0x81, long],
        [high, low] => vec![0x82, high, low],
    };
    [&[tag], &length[..], &content].concat()
}
