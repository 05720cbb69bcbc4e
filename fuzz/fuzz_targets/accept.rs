//! Identities: chain and bundle that differ from good ones by edits, which are signed afterwards. Another parser can read
//! everything that is accepted, and it verifies that chain, too. PEM and DER lead to the same.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::Ed25519KeyPair;
use libfuzzer_sys::fuzz_target;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use svid_csi_core::identity::{Candidate, Expected, PrivateKey, TrustBundle, accept, to_pem};
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_core::x509_context::{concatenate, split};
use x509_parser::prelude::FromDer;

const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

// The first byte selects which certificates are edited; then come edits, each a position, the number of bytes to remove,
// the number to insert, and these.
fuzz_target!(|input: &[u8]| {
    let [which, edits @ ..] = input else { return };
    let [root, intermediate, leaf] = &*SIGNED;
    let changed = |bit: u8, signed: &[u8]| if which & bit == 0 { signed.to_vec() } else { edited(signed, edits) };
    let bundle = vec![certificate(&KEYS[0], &changed(1, root))];
    let mut chain = vec![certificate(&KEYS[1], &changed(4, leaf))];
    chain.push(certificate(&KEYS[0], &changed(2, intermediate)));
    assert_eq!(split(&concatenate(&chain)).as_ref(), Ok(&chain));

    let key = PrivateKey::from_pkcs8_der(&PKCS8[2]).expect("a key");
    let candidate = Candidate { chain: chain.clone(), key, bundle: Some(bundle.clone()) };
    let expected = Expected { id: SpiffeId::parse(ID).expect("an ID"), now: now() };
    match accept(candidate, &expected) {
        Ok(identity) => {
            assert_eq!(identity.id().as_str(), ID);
            let all = identity.chain().iter().chain(identity.bundle());
            for der in all {
                let (rest, _) = x509_parser::certificate::X509Certificate::from_der(der).expect("a certificate");
                assert!(rest.is_empty());
            }
            webpki::EndEntityCert::try_from(&identity.chain()[0]).expect("a leaf");
            for der in identity.bundle() {
                webpki::anchor_from_trusted_cert(der).expect("an anchor");
            }
            let text = to_pem(identity.bundle());
            let read = TrustBundle::read(text.as_bytes()).expect("it is read back");
            assert_eq!(read.certificates(), identity.bundle());
        }
        Err(rejection) => {
            let text = rejection.to_string();
            assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
        }
    }
});

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_750_000_000)
}

static PKCS8: LazyLock<[Vec<u8>; 3]> =
    LazyLock::new(|| KEYS.each_ref().map(|pair| pair.to_pkcs8v1().expect("PKCS#8").as_ref().to_vec()));

static KEYS: LazyLock<[Ed25519KeyPair; 3]> =
    LazyLock::new(|| [1, 2, 3].map(|seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed")));

/// The signed parts of a root, of an intermediate CA, and of a leaf.
static SIGNED: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let [root, intermediate, leaf] = PKCS8.each_ref().map(|key| KeyPair::try_from(&key[..]).expect("a key"));
    let params = |name: &str, is_leaf: bool| {
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
    };
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

fn certificate(issuer: &Ed25519KeyPair, signed: &[u8]) -> CertificateDer<'static> {
    let signature = issuer.sign(signed);
    let signature = [&[3, 65, 0], signature.as_ref()].concat();
    let content = [signed, &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70], &signature].concat();
    let [high, low] = (content.len() as u16).to_be_bytes();
    [&[0x30, 0x82, high, low], &content[..]].concat().into()
}

fn edited(signed: &[u8], mut edits: &[u8]) -> Vec<u8> {
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
