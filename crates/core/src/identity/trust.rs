//! Whether a chain leads to the trust bundle (X509-SVID, section 5.1).

use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;

use super::path::{self, Certificate};
use super::rejection::{NOT_A_CA, Place, Rejection};
use crate::quoted::Quoted;

/// A certificate of a trust bundle that is skipped: it is not a CA certificate that may sign others, or malformed, so that
/// workloads could refuse the whole bundle because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its position.
    pub place: Place,
    /// Its subject.
    pub subject: Quoted,
    /// Its fault, as a verb phrase.
    pub reason: String,
}

/// The usable certificates of a trust bundle, without duplicates, and the skipped ones.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) skipped: Vec<Skipped>,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.place, self.subject, self.reason)
    }
}

/// Checks the certificates after the leaf: each must be a CA.
pub(super) fn check_intermediates(chain: &[CertificateDer<'_>]) -> Result<(), Rejection> {
    for (index, der) in chain.iter().enumerate().skip(1) {
        let place = Place::Chain { position: index + 1, of: chain.len() };
        Certificate::read(der, place)?.check_ca(place)?;
    }
    Ok(())
}

/// Separates certificates that do not belong to a CA, which are not validation material (X509-SVID, section 3.2), and those
/// that are malformed. The others are kept without duplicates, in their order. Fails if none is left, and if one is not a
/// certificate at all: then the whole bundle may be damaged.
pub(crate) fn usable_anchors(bundle: Vec<CertificateDer<'static>>) -> Result<Anchors, Rejection> {
    let of = bundle.len();
    let (mut usable, mut first) = (Anchors::default(), None);
    for (index, der) in bundle.into_iter().enumerate() {
        let place = Place::Bundle { position: index + 1, of };
        let Err(rejection) = check_anchor(&der, place) else {
            usable.certificates.push(der);
            continue;
        };
        let Ok(([], certificate)) = x509_parser::parse_x509_certificate(&der) else { return Err(rejection) };
        let reason = match &rejection {
            Rejection::NotACa { .. } => NOT_A_CA.to_owned(),
            Rejection::Unreadable { reason, .. } => format!("cannot be read by everyone: {reason}"),
            _ => return Err(rejection),
        };
        usable.skipped.push(Skipped { place, subject: Quoted::new(certificate.subject().to_string()), reason });
        first.get_or_insert(rejection);
    }
    match first {
        Some(rejection) if usable.certificates.is_empty() => Err(rejection),
        _ => Ok(Anchors { certificates: distinct(usable.certificates), ..usable }),
    }
}

/// Checks the trust bundle, all of which must be usable, and removes duplicates, keeping the order.
pub(crate) fn distinct_anchors(
    bundle: Vec<CertificateDer<'static>>,
) -> Result<Vec<CertificateDer<'static>>, Rejection> {
    for (index, der) in bundle.iter().enumerate() {
        check_anchor(der, Place::Bundle { position: index + 1, of: bundle.len() })?;
    }
    Ok(distinct(bundle))
}

fn distinct(bundle: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    let mut seen = HashSet::new();
    let is_new: Vec<bool> = bundle.iter().map(|der| seen.insert(der.as_ref())).collect();
    bundle.into_iter().zip(is_new).filter_map(|(der, is_new)| is_new.then_some(der)).collect()
}

fn check_anchor(der: &CertificateDer<'_>, place: Place) -> Result<(), Rejection> {
    Certificate::read(der, place)?.check_ca(place)
}

/// Verifies the chain, for clients and servers both, at the time `at`.
pub(super) fn verify(
    chain: &[CertificateDer<'_>],
    bundle: &[CertificateDer<'_>],
    at: SystemTime,
) -> Result<(), Rejection> {
    let place = |index| if index == 0 { Place::Leaf } else { Place::Chain { position: index + 1, of: chain.len() } };
    let path = chain.iter().enumerate().map(|(index, der)| Certificate::read(der, place(index)));
    let path = path.collect::<Result<Vec<_>, _>>()?;
    let place = |index| Place::Bundle { position: index + 1, of: bundle.len() };
    let anchors = bundle.iter().enumerate().map(|(index, der)| Certificate::read(der, place(index)));
    let mut anchors = anchors.collect::<Result<Vec<_>, _>>()?;
    // Some peers refuse an expired root, so an identity that depends on one is useless.
    anchors.retain(|anchor| !anchor.is_over(at));
    let expired = bundle.len() - anchors.len();
    path::verify(&path, &anchors, at).map_err(|fault| {
        let mut reason = fault.to_string();
        if expired > 0 {
            reason.push_str(&format!(" ({expired} of {} certificates in the bundle are expired)", bundle.len()));
        }
        Rejection::Untrusted { reason }
    })
}

/// The intermediate certificates among others, by their names: from the issuer of the leaf up to a root, without it.
pub(crate) fn issuers(leaf: &[u8], mut others: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut next = names(leaf).map(|(_, issuer)| issuer);
    while let Some(name) = next.take() {
        let is_issuer = |der: &Vec<u8>| names(der).is_some_and(|(subject, issuer)| subject == name && issuer != name);
        let Some(index) = others.iter().position(is_issuer) else { break };
        let issuer = others.swap_remove(index);
        next = names(&issuer).map(|(_, issuer)| issuer);
        found.push(issuer);
    }
    found
}

/// Whether a certificate names itself as its issuer, as a root does; not if it cannot be read.
pub(crate) fn is_self_issued(der: &[u8]) -> bool {
    names(der).is_some_and(|(subject, issuer)| subject == issuer)
}

/// The encoded subject and issuer.
fn names(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some((certificate.subject().as_raw().to_vec(), certificate.issuer().as_raw().to_vec()))
}
