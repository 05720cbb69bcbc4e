//! What several targets share. All keys are made from fixed seeds, so that an input always leads to the same.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use svid_csi::fuzzing::read;
use svid_csi_core::x509_context::{X509Context, concatenate};
use svid_csi_proto::workload::{X509svid, X509svidResponse};

pub mod csr;

/// The SPIFFE ID of the pod.
pub const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

/// A time at which the certificates are valid.
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_750_000_000)
}

/// Text that does nothing to a terminal and is one line.
#[track_caller]
pub fn assert_printable(text: &str) {
    assert!(!text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
}

/// The private keys of a root, of an intermediate CA, and of the pod.
pub static KEYS: LazyLock<[Ed25519KeyPair; 3]> =
    LazyLock::new(|| [1, 2, 3].map(|seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed")));

/// The same keys as PKCS#8.
pub static PKCS8: LazyLock<[Vec<u8>; 3]> =
    LazyLock::new(|| KEYS.each_ref().map(|pair| pair.to_pkcs8v1().expect("PKCS#8").as_ref().to_vec()));

/// The signed parts of the certificates of the root, of the intermediate CA, and of the pod.
pub static SIGNED: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let [root, intermediate, leaf] = PKCS8.each_ref().map(|key| KeyPair::try_from(&key[..]).expect("a key"));
    let (root_params, middle_params) = (params("root", false), params("intermediate", false));
    let root_certificate = root_params.self_signed(&root).expect("a root");
    let root = Issuer::new(root_params, root);
    let middle_certificate = middle_params.signed_by(&intermediate, &root).expect("an intermediate");
    let middle = Issuer::new(middle_params, intermediate);
    let leaf = params("leaf", true).signed_by(&leaf, &middle).expect("a leaf");
    [root_certificate.der(), middle_certificate.der(), leaf.der()].map(|der| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).expect("a certificate");
        certificate.tbs_certificate.as_ref().to_vec()
    })
});

fn params(name: &str, is_leaf: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = (now() - Duration::from_secs(3600)).into();
    params.not_after = (now() + Duration::from_secs(3600)).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serial_number = Some(1_u64.into());
    let id = if is_leaf { ID } else { "spiffe://example.org" };
    params.subject_alt_names = vec![SanType::URI(id.try_into().expect("ASCII"))];
    if is_leaf {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    } else {
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }
    params
}

/// A certificate with that signed part.
pub fn certificate(issuer: &Ed25519KeyPair, signed: &[u8]) -> CertificateDer<'static> {
    let signature = issuer.sign(signed);
    let signature = [&[3, 65, 0], signature.as_ref()].concat();
    let content = [signed, &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70], &signature].concat();
    let [high, low] = (content.len() as u16).to_be_bytes();
    [&[0x30, 0x82, high, low], &content[..]].concat().into()
}

/// Edits, each a position in two bytes, the number of bytes to remove, the number to insert, and these.
pub fn edited(signed: &[u8], mut edits: &[u8]) -> Vec<u8> {
    let mut signed = signed.to_vec();
    while let [high, low, cut, come, rest @ ..] = edits {
        let at = usize::from(u16::from_be_bytes([high & 1, *low]));
        let (more, rest) = rest.split_at(rest.len().min(usize::from(*come & 31)));
        let start = signed.len().min(at);
        let end = signed.len().min(start + usize::from(*cut & 31));
        signed.splice(start..end, more.iter().copied());
        edits = rest;
    }
    signed
}

/// What an agent sends of the pod's identity, with edits of the signed part of its certificate.
pub fn svid(edits: &[u8]) -> X509svid {
    let [root, intermediate, leaf] = &*SIGNED;
    let leaf = certificate(&KEYS[1], &edited(leaf, edits));
    X509svid {
        spiffe_id: ID.to_owned(),
        x509_svid: concatenate(&[leaf, certificate(&KEYS[0], intermediate)]),
        x509_svid_key: PKCS8[2].clone(),
        bundle: concatenate(&[certificate(&KEYS[0], root)]),
        hint: String::new(),
    }
}

/// The pod's identity, with the bundle of another trust domain.
pub static CONTEXT: LazyLock<X509Context> = LazyLock::new(|| {
    let svid = svid(&[]);
    let federated_bundles = [("spiffe://other.example".to_owned(), svid.bundle.clone())].into();
    let message = X509svidResponse { svids: vec![svid], federated_bundles, ..Default::default() };
    read(message, now()).expect("a good identity")
});
