//! Taking up a CA again.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;

use super::CertificateAuthority;
use crate::identity::{CLOCK_SKEW, KeyError, KeyType, PrivateKey, Validity};
use crate::pem_text::{self, Block, PemError};
use crate::signer::Signer;
use crate::spiffe_id::TrustDomain;
use crate::unix_time;

/// Why a CA cannot be taken up again, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file is not PEM with one certificate.
    #[error(
        "the CA certificate is not readable: {0}; restore the file, or remove certificate and key to have a new CA made"
    )]
    CertificatePem(PemError),
    /// What is in the PEM is not a certificate.
    #[error(
        "the CA certificate is not readable: {reason}; restore the file, or remove certificate and key to have a new CA made"
    )]
    Certificate {
        /// What the parser says.
        reason: String,
    },
    /// The file is not PEM with one key.
    #[error("{0}; restore the CA's key, or remove certificate and key to have a new CA made")]
    Key(KeyError),
    /// Another kind of key.
    #[error(
        "the CA's key is not ECDSA P-256, the only kind this CA signs with; remove certificate and key to have a new CA made"
    )]
    KeyKind,
    /// The two files do not belong together.
    #[error(
        "the CA's key does not belong to its certificate; restore the file that was changed, or remove both to have a new CA made"
    )]
    KeyMismatch,
    /// Not a CA certificate.
    #[error(
        "the certificate is not one of a CA (CA true, with keyCertSign); remove certificate and key to have a new CA made"
    )]
    NotACa,
    /// A CA of something else.
    #[error(
        "the CA certificate is for {found}, not for spiffe://{expected}; set the trust domain the CA was made for, or remove certificate and key to have a new CA made"
    )]
    TrustDomain {
        /// The URI names it has.
        found: String,
        /// The trust domain that was asked for.
        expected: TrustDomain,
    },
    /// Its time is over.
    #[error("the CA certificate expired at {}; remove certificate and key to have a new CA made", unix_time::rfc3339(*.not_after))]
    Expired {
        /// When it expired.
        not_after: SystemTime,
    },
    /// Its time has not come.
    #[error("the CA certificate is valid only from {}; check the clock of this node", unix_time::rfc3339(*.not_before))]
    NotYetValid {
        /// When it becomes valid.
        not_before: SystemTime,
    },
}

pub(super) fn load(
    certificate_pem: &str,
    key_pem: &str,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<CertificateAuthority, LoadError> {
    let der = pem_text::decode_one(Block::Certificate, certificate_pem).map_err(LoadError::CertificatePem)?;
    let der = CertificateDer::from(der.to_vec());
    let key = PrivateKey::from_pem(key_pem).map_err(LoadError::Key)?;
    if key.key_type() != KeyType::EcdsaP256 {
        return Err(LoadError::KeyKind);
    }
    let signer = Signer::new(&key).map_err(LoadError::Key)?;
    let validity = check(&der, &key, trust_domain, now)?;
    CertificateAuthority::assemble(trust_domain.clone(), der, key, validity, signer)
        .map_err(|error| unreadable(error.to_string()))
}

fn check(
    der: &CertificateDer<'_>,
    key: &PrivateKey,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<Validity, LoadError> {
    let certificate = match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => certificate,
        Ok(_) => return Err(unreadable("more bytes follow it")),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let may_sign = certificate.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign());
    if !certificate.is_ca() || !may_sign {
        return Err(LoadError::NotACa);
    }
    if certificate.public_key().raw != key.public_key_der() {
        return Err(LoadError::KeyMismatch);
    }
    check_trust_domain(&certificate, trust_domain)?;
    check_validity(&certificate, now)
}

fn check_trust_domain(certificate: &X509Certificate<'_>, trust_domain: &TrustDomain) -> Result<(), LoadError> {
    let uris = uri_names(certificate).map_err(|error| unreadable(error.to_string()))?;
    if uris == [trust_domain.id().as_str()] {
        return Ok(());
    }
    let found: String = uris.join(", ").escape_debug().take(300).collect();
    let found = if found.is_empty() { "no SPIFFE ID".to_owned() } else { found };
    Err(LoadError::TrustDomain { found, expected: trust_domain.clone() })
}

pub(super) fn uri_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, X509Error> {
    let names = certificate.subject_alternative_name()?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    Ok(names.filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None }).collect())
}

fn check_validity(certificate: &X509Certificate<'_>, now: SystemTime) -> Result<Validity, LoadError> {
    let validity = certificate.validity();
    let at = |time: i64| unix_time::at(time).ok_or_else(|| unreadable("its validity is out of range"));
    let (not_before, not_after) = (at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?);
    if now >= not_after {
        return Err(LoadError::Expired { not_after });
    }
    if not_before.duration_since(now).is_ok_and(|ahead| ahead > CLOCK_SKEW) {
        return Err(LoadError::NotYetValid { not_before });
    }
    Ok(Validity { not_before, not_after })
}

fn unreadable(reason: impl Into<String>) -> LoadError {
    LoadError::Certificate { reason: reason.into() }
}
