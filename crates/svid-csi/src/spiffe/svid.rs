//! An X.509-SVID from the view of a workload, checked by other code than the code that issued it.

use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::tls::provider;

/// Names of the files of an identity, in the order chain, key, bundle.
pub const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// A certificate chain with its key, and the bundle of its trust domain. `Debug` leaves the key out.
#[derive(Debug)]
pub struct Svid {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
    /// The signing certificates of the trust domain.
    pub bundle: Vec<CertificateDer<'static>>,
}

/// The fields of a leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// Its only URI name.
    pub spiffe_id: String,
    /// Its serial number in lower-case hexadecimal, two digits per byte.
    pub serial: String,
    /// The end of its validity, RFC 3339 in UTC.
    pub not_after: String,
}

/// Why an SVID is not usable.
#[derive(Debug, thiserror::Error)]
pub enum SvidError {
    /// A file does not exist or cannot be read.
    #[error("{name} cannot be read")]
    Read {
        /// The file's name.
        name: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A part is empty or malformed.
    #[error("{0} is empty or malformed")]
    Malformed(&'static str),
    /// Not exactly one URI name (X509-SVID, section 2).
    #[error("the certificate has {0} URI names, an X.509-SVID has exactly one")]
    UriNames(usize),
    /// The TLS library refuses it.
    #[error("the certificate is refused")]
    Refused(#[from] rustls::Error),
}

impl Svid {
    /// Reads `tls.crt`, `tls.key` and `ca.crt` in `folder`.
    ///
    /// # Errors
    /// [`SvidError`] if one of them cannot be read or has unexpected contents.
    pub fn read(folder: &Path) -> Result<Self, SvidError> {
        let [chain, key, bundle] = FILES;
        let read = |name| std::fs::read(folder.join(name)).map_err(|source| SvidError::Read { name, source });
        Ok(Self {
            chain: certificates(chain, &read(chain)?)?,
            key: PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| SvidError::Malformed(key))?,
            bundle: certificates(bundle, &read(bundle)?)?,
        })
    }

    /// The fields of the leaf.
    ///
    /// # Errors
    /// [`SvidError`] if it is not an X.509-SVID.
    pub fn leaf(&self) -> Result<Leaf, SvidError> {
        Leaf::read(self.chain.first().ok_or(SvidError::Malformed("the chain"))?)
    }

    /// Checks that the key belongs to the leaf, as a TLS server would.
    ///
    /// # Errors
    /// [`SvidError`] if it belongs to another certificate, or if TLS does not support its type.
    pub fn check_key(&self) -> Result<(), SvidError> {
        let key = aws_lc_rs::sign::any_supported_type(&self.key)?;
        Ok(CertifiedKey::new(self.chain.clone(), key).keys_match()?)
    }

    /// Checks that the chain leads to a certificate of the bundle, is valid now and is suitable for TLS.
    ///
    /// # Errors
    /// [`SvidError`] if it does not.
    pub fn check_chain(&self) -> Result<(), SvidError> {
        let (leaf, intermediates) = self.chain.split_first().ok_or(SvidError::Malformed("the chain"))?;
        Ok(verify_chain(leaf, intermediates, &self.roots()?, UnixTime::now())?)
    }

    /// The bundle as TLS roots.
    ///
    /// # Errors
    /// [`SvidError`] if one of them cannot be a root.
    pub fn roots(&self) -> Result<RootCertStore, SvidError> {
        let mut roots = RootCertStore::empty();
        self.bundle.iter().try_for_each(|root| roots.add(root.clone()))?;
        Ok(roots)
    }
}

impl Leaf {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// [`SvidError`] if it is not one, or does not have exactly one URI name.
    pub fn read(der: &[u8]) -> Result<Self, SvidError> {
        let malformed = SvidError::Malformed("the certificate");
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Err(malformed) };
        let not_after = certificate.validity().not_after.to_datetime().format(&Rfc3339);
        Ok(Self {
            spiffe_id: only_uri(&certificate)?,
            serial: certificate.serial.to_bytes_be().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_after: not_after.map_err(|_| malformed)?,
        })
    }
}

/// Verifies that a chain leads to one of the roots, whatever names it contains: SPIFFE identifies peers only by their
/// ID.
fn verify_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf)?,
        roots,
        intermediates,
        now,
        algorithms,
    )
}

fn certificates(name: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SvidError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|certificates| !certificates.is_empty()).ok_or(SvidError::Malformed(name))
}

fn only_uri(certificate: &X509Certificate<'_>) -> Result<String, SvidError> {
    let names = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let uris: Vec<_> = names
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => Ok(uri.to_owned()),
        _ => Err(SvidError::UriNames(uris.len())),
    }
}
