//! Loading a CA.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use super::anchor::{Anchor, uri_names};
use super::{CertificateAuthority, SvidRequest, issuer};
use crate::identity::{Candidate, Expected, KeyError, PrivateKey, Rejection, Validity, accept, issuers, leads_to};
use crate::pem_text::{self, Block, PemError};
use crate::signer::Signer;
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::unix_time;

/// Why a CA cannot be loaded, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file is not PEM with certificates.
    #[error(
        "the CA certificate is not readable: {0}; restore the file, or remove certificate and key to create a new CA"
    )]
    CertificatePem(PemError),
    /// The PEM does not hold a certificate.
    #[error(
        "the CA certificate is not readable: {reason}; restore the file, or remove certificate and key to create a new CA"
    )]
    Certificate {
        /// The parser's message.
        reason: String,
    },
    /// The file is not PEM with one key.
    #[error("{0}; restore the CA's key, or remove certificate and key to create a new CA")]
    Key(KeyError),
    /// The two files do not belong together.
    #[error(
        "the CA's key does not belong to its certificate; restore the file that was changed, or remove both to create a new CA"
    )]
    KeyMismatch,
    /// Not a CA certificate.
    #[error(
        "the certificate is not a CA certificate (CA true, with keyCertSign); remove certificate and key to create a new CA"
    )]
    NotACa,
    /// Intermediate certificates that do not lead to a root.
    #[error("the CA's file holds several certificates and no root; add the root that they lead to")]
    NoRoot,
    /// Peers would refuse the identities it signs.
    #[error(
        "identities that this CA signs would be refused ({rejection}); restore its file, with all certificates up to the root"
    )]
    Useless {
        /// The rule they would break.
        rejection: Box<Rejection>,
    },
    /// A CA of another trust domain.
    #[error(
        "the CA certificate is for {found}, not for spiffe://{expected}; set the trust domain the CA was made for, or remove certificate and key to create a new CA"
    )]
    TrustDomain {
        /// The URI names it has.
        found: String,
        /// The expected trust domain.
        expected: TrustDomain,
    },
}

pub(super) fn load(
    certificate_pem: &str,
    key_pem: &str,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<CertificateAuthority, LoadError> {
    let all =
        pem_text::decode_all(Block::Certificate, certificate_pem.as_bytes()).map_err(LoadError::CertificatePem)?;
    let key = PrivateKey::from_pem(key_pem).map_err(LoadError::Key)?;
    let signer = Signer::new(&key).map_err(LoadError::Key)?;
    let Chain { certificate, intermediates, roots } = Chain::sorted(all, &key)?;
    let validity = check(&certificate, trust_domain)?;
    let anchor = |certificate: CertificateDer<'static>| {
        let not_after = check(&certificate, trust_domain)?.not_after;
        Ok(Anchor { certificate, not_after })
    };
    let all = intermediates.iter().chain(&roots).chain([&certificate]);
    let all = all.map(|der| validity_of(&parse(der)?)).collect::<Result<Vec<_>, _>>()?;
    let roots = roots.into_iter().map(anchor).collect::<Result<_, LoadError>>()?;
    let issuer = issuer(&certificate, signer).map_err(|error| unreadable(error.to_string()))?;
    let trust_domain = trust_domain.clone();
    let mut ca = CertificateAuthority { trust_domain, certificate, intermediates, roots, key, validity, issuer };
    let chain = check_trial_leaf(&ca, time_to_try(&all, now))?;
    ca.validity = validity_of_chain(&ca, &chain, &all);
    Ok(ca)
}

/// The certificates in a CA's file.
struct Chain {
    certificate: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
}

impl Chain {
    /// Sorts them: the certificate of the key, the self-issued ones, and the rest in the order of their names.
    fn sorted(all: Vec<Vec<u8>>, key: &PrivateKey) -> Result<Self, LoadError> {
        let (mut certificate, mut rest, mut roots) = (None, Vec::new(), Vec::new());
        for der in all {
            let parsed = parse(&der)?;
            let is_root = parsed.subject().as_raw() == parsed.issuer().as_raw();
            let is_own = certificate.is_none() && parsed.public_key().raw == key.public_key_der();
            if is_own {
                certificate = Some((der.clone(), is_root));
            }
            match (is_root, is_own) {
                (true, _) => roots.push(CertificateDer::from(der)),
                (false, true) => {}
                (false, false) => rest.push(der),
            }
        }
        let (certificate, is_root) = certificate.ok_or(LoadError::KeyMismatch)?;
        if roots.is_empty() && !rest.is_empty() {
            return Err(LoadError::NoRoot);
        }
        let mut intermediates = Vec::new();
        if roots.is_empty() {
            roots.push(CertificateDer::from(certificate.clone()));
        } else if !is_root {
            let others = issuers(&certificate, rest);
            intermediates = std::iter::once(certificate.clone()).chain(others).map(CertificateDer::from).collect();
        }
        Ok(Self { certificate: certificate.into(), intermediates, roots })
    }
}

/// Now, or else a time at which all of the certificates are valid: a CA can be loaded at any time, because a clock may be
/// wrong.
fn time_to_try(all: &[Validity], now: SystemTime) -> SystemTime {
    let from = all.iter().map(|validity| validity.not_before).max().unwrap_or(now);
    let is_valid = |validity: &Validity| validity.not_before <= now && now < validity.not_after;
    if all.iter().all(is_valid) { now } else { from }
}

/// When a chain leads from the CA to one of its roots: those above it may expire before it does.
fn validity_of_chain(ca: &CertificateAuthority, chain: &[CertificateDer<'_>], all: &[Validity]) -> Validity {
    const SECOND: Duration = Duration::from_secs(1);
    let own = ca.validity;
    let roots: Vec<_> = ca.roots.iter().map(|root| root.certificate.clone()).collect();
    let leads = |at: SystemTime| leads_to(chain, &roots, at).is_ok();
    let starts = all.iter().map(|validity| validity.not_before.max(own.not_before));
    let ends = all.iter().map(|validity| validity.not_after.min(own.not_after));
    Validity {
        not_before: starts.filter(|start| leads(*start)).min().unwrap_or(own.not_before),
        not_after: ends.filter(|end| end.checked_sub(SECOND).is_some_and(leads)).max().unwrap_or(own.not_after),
    }
}

/// Signs for a workload that does not exist, and checks that the result is accepted: a name constraint, a path that is
/// too long or a missing certificate is found before the first pod has to wait. Returns its chain.
fn check_trial_leaf(ca: &CertificateAuthority, at: SystemTime) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    const LIFETIME: Duration = Duration::from_secs(60);
    let id = SpiffeId::parse(&format!("{}/svid-csi/try-out", ca.trust_domain.id()));
    let id = id.map_err(|error| unreadable(error.to_string()))?;
    let (key, request) = SvidRequest::with_new_key(id.clone(), LIFETIME).map_err(LoadError::Key)?;
    let leaf = ca.sign(&request, at, [1; 16]).map_err(|error| unreadable(error.to_string()))?;
    let chain = std::iter::once(leaf).chain(ca.intermediates.iter().cloned()).collect();
    let bundle = Some(ca.roots.iter().map(|root| root.certificate.clone()).collect());
    let accepted = accept(Candidate { chain, key, bundle }, &Expected { id, now: at });
    accepted
        .map(|identity| identity.chain().to_vec())
        .map_err(|rejection| LoadError::Useless { rejection: rejection.into() })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, LoadError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(unreadable("more bytes follow it")),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// Checks the CA and its roots.
fn check(der: &CertificateDer<'_>, trust_domain: &TrustDomain) -> Result<Validity, LoadError> {
    let certificate = parse(der)?;
    let usage = certificate.key_usage().map_err(|error| unreadable(error.to_string()))?;
    let may_sign = usage.is_none_or(|usage| usage.value.key_cert_sign());
    if !certificate.is_ca() || !may_sign {
        return Err(LoadError::NotACa);
    }
    check_trust_domain(&certificate, trust_domain)?;
    validity_of(&certificate)
}

fn check_trust_domain(certificate: &X509Certificate<'_>, trust_domain: &TrustDomain) -> Result<(), LoadError> {
    let uris = uri_names(certificate).map_err(|error| unreadable(error.to_string()))?;
    if uris.is_empty() || uris == [trust_domain.id().as_str()] {
        return Ok(());
    }
    let found = uris.join(", ").escape_debug().take(300).collect();
    Err(LoadError::TrustDomain { found, expected: trust_domain.clone() })
}

fn validity_of(certificate: &X509Certificate<'_>) -> Result<Validity, LoadError> {
    let validity = certificate.validity();
    let at = |time: i64| unix_time::at(time).ok_or_else(|| unreadable("its validity is out of range"));
    Ok(Validity { not_before: at(validity.not_before.timestamp())?, not_after: at(validity.not_after.timestamp())? })
}

fn unreadable(reason: impl Into<String>) -> LoadError {
    LoadError::Certificate { reason: reason.into() }
}
