//! Whether a chain leads to the trust bundle (X509-SVID, section 5.1).

use std::collections::HashSet;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;

use super::path::{self, Certificate};
use super::rejection::{Place, Rejection};

/// Checks the certificates after the leaf: each must be a CA.
pub(super) fn check_intermediates(chain: &[CertificateDer<'_>]) -> Result<(), Rejection> {
    for (index, der) in chain.iter().enumerate().skip(1) {
        let place = Place::Chain { position: index + 1, of: chain.len() };
        Certificate::read(der, place)?.check_ca(place)?;
    }
    Ok(())
}

/// Checks the trust bundle and removes what is in it twice, keeping the order.
pub(crate) fn distinct_anchors(
    bundle: Vec<CertificateDer<'static>>,
) -> Result<Vec<CertificateDer<'static>>, Rejection> {
    for (index, der) in bundle.iter().enumerate() {
        check_anchor(der, Place::Bundle { position: index + 1, of: bundle.len() })?;
    }
    let mut seen = HashSet::new();
    let is_new: Vec<bool> = bundle.iter().map(|der| seen.insert(der.as_ref())).collect();
    Ok(bundle.into_iter().zip(is_new).filter_map(|(der, is_new)| is_new.then_some(der)).collect())
}

pub(super) fn check_anchor(der: &CertificateDer<'_>, place: Place) -> Result<(), Rejection> {
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
    // Some peers do refuse an expired root, so an identity that hangs on one is as good as none.
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
    let names = |der: &[u8]| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        Some((certificate.subject().as_raw().to_vec(), certificate.issuer().as_raw().to_vec()))
    };
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
