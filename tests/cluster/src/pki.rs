//! The certificates of the control plane: one authority, one certificate per component.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::files;

/// A certificate authority that writes the certificates it signs into a folder.
pub struct Authority {
    folder: std::path::PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A signed certificate with its key.
pub struct Credentials {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A new authority, its certificate and key written as `ca.crt` and `ca.key`.
    pub fn create(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kubernetes-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let authority = Self { folder: folder.to_owned(), pem, issuer: Issuer::new(params, key) };
        authority.write("ca.crt", &authority.pem)?;
        authority.write("ca.key", &authority.issuer.key().serialize_pem())?;
        Ok(authority)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for `name`, written as `<file>.crt` and `<file>.key`.
    pub fn sign(&self, file: &str, name: &str, group: Option<&str>, addresses: &[IpAddr]) -> Result<Credentials> {
        let hosts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let signed = Credentials { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() };
        self.write(&format!("{file}.crt"), &signed.certificate)?;
        self.write(&format!("{file}.key"), &signed.key)?;
        Ok(signed)
    }

    /// The key pair that signs service account tokens, as `sa.key` and `sa.pub`.
    pub fn service_account_key(&self) -> Result<()> {
        let key = KeyPair::generate()?;
        self.write("sa.key", &key.serialize_pem())?;
        self.write("sa.pub", &key.public_key_pem())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        files::write(&self.folder.join(file), text)
    }
}
