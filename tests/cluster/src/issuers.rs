//! Issuers of cert-manager, and the certificate authorities behind them, as objects to be applied.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use serde_json::{Value, json};

use crate::cert_manager::NAMESPACE;

const API_VERSION: &str = "cert-manager.io/v1";

/// A certificate authority with a P-256 key.
pub struct SigningCa {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl SigningCa {
    /// A root.
    pub fn create(name: &str) -> Result<Self> {
        let (params, key) = Self::params(name)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// An intermediate CA signed by this one. Its certificate is the chain down from this one.
    pub fn intermediate(&self, name: &str) -> Result<Self> {
        let (params, key) = Self::params(name)?;
        let own = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Self { certificate: own + &self.certificate, issuer: Issuer::new(params, key) })
    }

    /// The certificate in PEM; for an intermediate, with those above it.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a SPIFFE ID, valid for an hour, and its key, both in PEM.
    pub fn svid(&self, id: &str) -> Result<[String; 2]> {
        let mut params = CertificateParams::default();
        let now = SystemTime::now();
        (params.not_before, params.not_after) = (now.into(), (now + Duration::from_secs(3600)).into());
        params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok([params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()])
    }

    /// The secret an issuer signs with, in the namespace of ClusterIssuers or in that of the issuer.
    #[must_use]
    pub fn secret(&self, namespace: Option<&str>, name: &str) -> Value {
        let data = json!({
            "tls.crt": self.certificate,
            "tls.key": self.issuer.key().serialize_pem(),
            "ca.crt": self.certificate,
        });
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace.unwrap_or(NAMESPACE)},
            "type": "kubernetes.io/tls",
            "stringData": data,
        })
    }

    fn params(name: &str) -> Result<(CertificateParams, KeyPair)> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok((params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }
}

/// A ClusterIssuer that signs with the secret of that name.
#[must_use]
pub fn ca_cluster_issuer(name: &str, secret: &str) -> Value {
    object("ClusterIssuer", json!({"name": name}), json!({"ca": {"secretName": secret}}))
}

/// An issuer of one namespace that signs with the secret of that name there.
#[must_use]
pub fn ca_issuer(namespace: &str, name: &str, secret: &str) -> Value {
    object("Issuer", json!({"name": name, "namespace": namespace}), json!({"ca": {"secretName": secret}}))
}

/// A ClusterIssuer by which each certificate signs itself.
#[must_use]
pub fn self_signed_cluster_issuer(name: &str) -> Value {
    object("ClusterIssuer", json!({"name": name}), json!({"selfSigned": {}}))
}

fn object(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})
}
