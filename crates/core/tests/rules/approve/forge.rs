//! Creates certificate signing requests, good and bad, and the fields around them.

use std::collections::BTreeMap;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use svid_csi_core::approve::{Mode, Policy, Request, ServiceAccount, Verdict, judge};
use svid_csi_core::cert_request::{IssuerRef, OwnerReference, USAGES};
use svid_csi_core::identity::{KeyType, PrivateKey};
use svid_csi_core::spiffe_id::TrustDomain;

use crate::forge::{HOUR, ID, one_name, uri};

pub(crate) const POD_UID: &str = "0d2ee1a9-8b51-4c25-9f6f-3b8f6f7b1c11";
pub(crate) const DRIVER_UID: &str = "77c1c9a2-51a7-4b1e-8f0e-0a1f1f3e2d22";
pub(crate) const DRIVER: &str = "system:serviceaccount:cert-manager:csi-driver-spiffe";
pub(crate) const NODE: &str = "node-1";

pub(crate) fn policy() -> Policy {
    Policy {
        driver_name: "spiffe.csi.cert-manager.io".to_owned(),
        trust_domain: TrustDomain::parse("example.org").expect("a trust domain"),
        duration: HOUR,
        issuer: Some(issuer("spiffe-ca", "ClusterIssuer", "cert-manager.io")),
        former_issuers: Vec::new(),
        mode: Mode::Pod,
        key_types: KeyType::ALL.into(),
        auto_approve_non_spiffe: false,
    }
}

pub(crate) fn own_account() -> Policy {
    Policy { mode: Mode::OwnServiceAccount { driver: driver() }, ..policy() }
}

pub(crate) fn node_bound() -> Policy {
    Policy { mode: Mode::NodeBound { driver: driver() }, ..policy() }
}

pub(crate) fn driver() -> ServiceAccount {
    DRIVER.parse().expect("a service account")
}

pub(crate) fn issuer(name: &str, kind: &str, group: &str) -> IssuerRef {
    IssuerRef { name: name.to_owned(), kind: kind.to_owned(), group: group.to_owned() }
}

/// A good request of a pod with that CSR.
pub(crate) fn request(csr: impl Into<Vec<u8>>) -> Request {
    Request {
        namespace: "shop".to_owned(),
        name: "b4b0d4a4-4bd2-4d8a-a2f0-54bb8f7d1d33".to_owned(),
        identity: Some(ID.to_owned()),
        csr: csr.into(),
        duration: Some("1h0m0s".to_owned()),
        usages: USAGES.map(str::to_owned).to_vec(),
        issuer: issuer("spiffe-ca", "ClusterIssuer", "cert-manager.io"),
        username: "system:serviceaccount:shop:cart".to_owned(),
        extra: BTreeMap::from([extra("pod-uid", POD_UID), extra("pod-name", "cart-0")]),
        owners: vec![OwnerReference::pod("cart-0", POD_UID)],
        ..Request::default()
    }
}

/// A good request of the driver.
pub(crate) fn driver_request() -> Request {
    let stamps = [("pod-uid", DRIVER_UID), ("pod-name", "csi-driver-spiffe-x7x"), ("node-name", NODE)];
    Request {
        username: DRIVER.to_owned(),
        extra: stamps.map(|(key, value)| extra(key, value)).into(),
        ..request(Csr::good().pem())
    }
}

pub(crate) fn extra(key: &str, value: &str) -> (String, Vec<String>) {
    (format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()])
}

/// Class and sentence of every reason a request is denied for; empty if it is not denied.
pub(crate) fn faults(request: &Request, policy: &Policy) -> Vec<(&'static str, String)> {
    faults_of(&judge(request, policy))
}

pub(crate) fn faults_of(verdict: &Verdict) -> Vec<(&'static str, String)> {
    match verdict {
        Verdict::Deny(reasons) => reasons.iter().map(|reason| (reason.class(), reason.to_string())).collect(),
        _ => Vec::new(),
    }
}

/// Asserts that there is one reason, of that class, with that in its sentence.
#[track_caller]
pub(crate) fn denied_for(request: &Request, policy: &Policy, class: &str, sentence: &str) {
    let found = faults(request, policy);
    let as_expected = matches!(&found[..], [(one, text)] if *one == class && text.contains(sentence));
    assert!(as_expected, "expected {class}: {sentence}, found {found:#?}");
}

/// A CSR of the certificate builder, good until it is changed.
pub(crate) fn built(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    built_with(&KeyPair::generate().expect("a key"), change)
}

pub(crate) fn built_with(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(ID)];
    change(&mut params);
    params.serialize_request(key).expect("a request").pem().expect("PEM").into_bytes()
}

/// A CSR put together by hand, element by element. Whatever is changed, it is signed with its key.
#[derive(Clone)]
pub(crate) struct Csr {
    pub(crate) version: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) public_key: Vec<u8>,
    /// All attributes, with tag and length around them.
    pub(crate) attributes: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) after_signature: Vec<u8>,
    key: Vec<u8>,
}

impl Csr {
    pub(crate) fn good() -> Self {
        Self::with_extensions(&[names(&one_name(6, ID.as_bytes()))])
    }

    /// Asks for these extensions.
    pub(crate) fn with_extensions(extensions: &[Vec<u8>]) -> Self {
        Self::with_attributes(&[extension_request(extensions)])
    }

    pub(crate) fn with_attributes(attributes: &[Vec<u8>]) -> Self {
        let key = PrivateKey::generate_p256().expect("a key");
        Self {
            version: vec![2, 1, 0],
            subject: vec![0x30, 0],
            public_key: key.public_key_der().to_vec(),
            attributes: tlv(0xa0, &attributes.concat()),
            algorithm: seq(&[oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])]),
            after_signature: Vec::new(),
            key: key.der().to_vec(),
        }
    }

    pub(crate) fn changed(change: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut csr = Self::good();
        change(&mut csr);
        csr.pem()
    }

    /// The signed part.
    pub(crate) fn info(&self) -> Vec<u8> {
        seq(&[self.version.clone(), self.subject.clone(), self.public_key.clone(), self.attributes.clone()])
    }

    pub(crate) fn sign(&self, info: &[u8]) -> Vec<u8> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.key).expect("a key");
        pair.sign(&SystemRandom::new(), info).expect("a signature").as_ref().to_vec()
    }

    /// The whole CSR with another signed part, and a valid signature.
    pub(crate) fn around(&self, info: Vec<u8>) -> Vec<u8> {
        let signature = tlv(3, &[&[0], &*self.sign(&info)].concat());
        seq(&[info, self.algorithm.clone(), signature, self.after_signature.clone()])
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.around(self.info())
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        armour(&self.der())
    }
}

/// One PEM block.
pub(crate) fn armour(der: &[u8]) -> Vec<u8> {
    labelled("CERTIFICATE REQUEST", der).into_bytes()
}

pub(crate) fn labelled(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// One DER element.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).expect("a short content").to_be_bytes();
    let head = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&head, content].concat()
}

pub(crate) fn seq(elements: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &elements.concat())
}

pub(crate) fn oid(bytes: &[u8]) -> Vec<u8> {
    tlv(6, bytes)
}

/// 1.2.840.113549.1.9.14
pub(crate) const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

pub(crate) fn attribute(id: &[u8], values: &[Vec<u8>]) -> Vec<u8> {
    seq(&[oid(id), tlv(0x31, &values.concat())])
}

pub(crate) fn extension_request(extensions: &[Vec<u8>]) -> Vec<u8> {
    attribute(EXTENSION_REQUEST, &[seq(extensions)])
}

/// An extension of the arc 2.5.29.
pub(crate) fn extension(number: u8, value: &[u8]) -> Vec<u8> {
    seq(&[oid(&[0x55, 0x1d, number]), tlv(4, value)])
}

/// The extension with the names.
pub(crate) fn names(value: &[u8]) -> Vec<u8> {
    extension(17, value)
}

/// The names of a good request.
pub(crate) fn good_names() -> Vec<u8> {
    names(&one_name(6, ID.as_bytes()))
}
