//! A certificate authority that issues good and bad certificates, as a test requires.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use svid_csi_core::identity::PrivateKey;
use svid_csi_core::request::csr_pem;
use svid_csi_core::spiffe_id::SpiffeId;
use tokio_rustls::TlsAcceptor;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::FromDer;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How far issuers backdate certificates.
const BACKDATED: Duration = Duration::from_secs(10);

/// A root, possibly with an intermediate that signs in its place.
#[derive(Debug)]
pub struct TestCa {
    root_pem: String,
    intermediate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A chain and its key, in the form of the SPIFFE APIs. `Debug` leaves the key out.
pub struct Issued {
    /// The certificates as concatenated DER, the leaf first.
    pub chain: Vec<u8>,
    /// The leaf's key, PKCS#8 in DER.
    pub key: Vec<u8>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

/// A flaw of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It is for a key other than that of the request.
    OtherKey,
    /// It is for another SPIFFE ID.
    OtherId,
    /// It does not have a URI name.
    NoUri,
    /// It has a second URI name.
    TwoUris,
    /// It may not be used for signatures, nor by servers or clients.
    NoUsages,
    /// It has no key usages at all.
    NoKeyUsage,
    /// It may sign others.
    IsCa,
    /// It has expired.
    Expired,
    /// It becomes valid in an hour.
    NotYetValid,
    /// There is no certificate, although the issuer reports that it is ready.
    EmptyChain,
    /// A megabyte of certificates follows it.
    HugeChain,
    /// It is signed by another authority.
    UnknownCa,
    /// The intermediate is missing.
    NoIntermediate,
    /// It is not PEM.
    Garbage,
    /// It is self-signed, as by cert-manager's issuer SelfSigned.
    SelfSigned,
}

impl TestCa {
    /// A root that signs certificates itself.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = ca_params(name);
        let root_pem = params.self_signed(&key).expect("a root").pem();
        TestCa { root_pem, intermediate_pem: String::new(), issuer: Issuer::new(params, key) }
    }

    /// A root with an intermediate that signs.
    pub fn with_intermediate(name: &str) -> Self {
        let root = TestCa::new(name);
        let key = KeyPair::generate().expect("a key");
        let params = ca_params(&format!("{name} intermediate"));
        let intermediate_pem = params.signed_by(&key, &root.issuer).expect("an intermediate").pem();
        TestCa { intermediate_pem, issuer: Issuer::new(params, key), ..root }
    }

    /// The root, in PEM, which verifies every certificate of this CA.
    pub fn bundle_pem(&self) -> String {
        self.root_pem.clone()
    }

    /// The root, in DER.
    pub fn bundle_der(&self) -> Vec<u8> {
        der_of(&self.root_pem)
    }

    /// A new key with a certificate for that SPIFFE ID.
    ///
    /// # Panics
    /// If that is not a SPIFFE ID.
    pub fn issue(&self, spiffe_id: &str, lifetime: Duration, flaw: Option<Flaw>) -> Issued {
        let id = SpiffeId::parse(spiffe_id).expect("a SPIFFE ID");
        let key = PrivateKey::generate_p256().expect("a key");
        let csr = csr_pem(&key, &id).expect("a request");
        Issued { chain: der_of(&self.sign(&csr, lifetime, flaw)), key: key.der().to_vec() }
    }

    /// TLS of a server with that name, or at that address.
    ///
    /// # Panics
    /// If it cannot have a certificate.
    pub fn server_tls(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        prepare(&mut params, Duration::from_secs(3600));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate and its key");
        TlsAcceptor::from(Arc::new(config))
    }

    /// Signs a CSR (PEM), with the given flaw. Returns the chain in PEM, the leaf first.
    ///
    /// # Panics
    /// If the CSR cannot be read.
    pub fn sign(&self, csr_pem: &str, lifetime: Duration, flaw: Option<Flaw>) -> String {
        let (key, uris) = read(csr_pem);
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris;
        prepare(&mut params, lifetime);
        flaw.into_iter().for_each(|flaw| spoil(&mut params, flaw));
        let other = || KeyPair::generate().expect("a key");
        let leaf = match flaw {
            Some(Flaw::OtherKey) => params.signed_by(&other(), &self.issuer),
            Some(Flaw::SelfSigned) => params.self_signed(&other()),
            Some(Flaw::UnknownCa) => params.signed_by(&key, &TestCa::new("unknown").issuer),
            _ => params.signed_by(&key, &self.issuer),
        };
        let leaf = leaf.expect("a certificate").pem();
        match flaw {
            Some(Flaw::EmptyChain) => String::new(),
            Some(Flaw::Garbage) => "no certificate".to_owned(),
            Some(Flaw::NoIntermediate) => leaf,
            Some(Flaw::HugeChain) => leaf + &self.root_pem.repeat((1 << 20) / self.root_pem.len()),
            _ => leaf + &self.intermediate_pem,
        }
    }
}

/// All blocks of a PEM text, concatenated.
fn der_of(pem: &str) -> Vec<u8> {
    Pem::iter_from_buffer(pem.as_bytes()).flat_map(|block| block.expect("PEM").contents).collect()
}

/// The key of a CSR, and its URI names. The signature is not checked, which is the task of approvers.
fn read(csr_pem: &str) -> (SubjectPublicKeyInfo, Vec<SanType>) {
    let (_, pem) = parse_x509_pem(csr_pem.as_bytes()).expect("PEM");
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents).expect("a CSR");
    let key =
        SubjectPublicKeyInfo::from_der(csr.certification_request_info.subject_pki.raw).expect("a key rcgen knows");
    let names = csr.requested_extensions().into_iter().flatten().filter_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let uris = names.flatten().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(SanType::URI((*uri).try_into().expect("ASCII"))),
        _ => None,
    });
    (key, uris.collect())
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, SystemTime::now() - DAY, 30 * DAY);
    params
}

/// The extensions that an issuer of cert-manager adds for the four usages of every request.
fn prepare(params: &mut CertificateParams, lifetime: Duration) {
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let random = KeyPair::generate().expect("a key").public_key_raw()[1..17].to_vec();
    params.serial_number = Some(SerialNumber::from(random));
    valid(params, SystemTime::now() - BACKDATED, lifetime + BACKDATED);
}

fn spoil(params: &mut CertificateParams, flaw: Flaw) {
    let uri = |text: &str| SanType::URI(text.try_into().expect("ASCII"));
    match flaw {
        Flaw::OtherId => params.subject_alt_names = vec![uri("spiffe://example.org/ns/shop/sa/somebody-else")],
        Flaw::NoUri => params.subject_alt_names = vec![SanType::DnsName("cart.example".try_into().expect("ASCII"))],
        Flaw::TwoUris => params.subject_alt_names.push(uri("spiffe://example.org/ns/shop/sa/somebody-else")),
        Flaw::NoUsages => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
        Flaw::NoKeyUsage => params.key_usages.clear(),
        Flaw::IsCa => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Flaw::Expired => valid(params, SystemTime::now() - 2 * DAY, DAY),
        Flaw::NotYetValid => valid(params, SystemTime::now() + Duration::from_secs(3600), DAY),
        _ => {}
    }
}

fn valid(params: &mut CertificateParams, from: SystemTime, lifetime: Duration) {
    params.not_before = from.into();
    params.not_after = (from + lifetime).into();
}
