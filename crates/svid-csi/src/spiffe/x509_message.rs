//! Conversion between the X.509 messages of the Workload API and the Broker API, and the material for a pod.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use svid_csi_core::identity::{Candidate, KeyError, PrivateKey, Rejection};
use svid_csi_core::quoted::Quoted;
use svid_csi_core::spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
use svid_csi_core::x509_context::{
    Bundles, ConcatenatedDer, ContextCandidate, Damaged, SvidCandidate, X509Context, accept, concatenate, split,
};
use svid_csi_proto::workload::{X509BundlesResponse, X509svid, X509svidResponse};
use zeroize::Zeroizing;

/// The maximum size of a message, in bytes: larger than any content that may be accepted.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Why a message cannot be read. Contains no part of a key.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// A name of an SVID is not a SPIFFE ID.
    #[error("the spiffe_id of SVID {position} is not a SPIFFE ID")]
    SpiffeId {
        /// The position of the SVID, counted from 1.
        position: usize,
        /// The problem.
        #[source]
        source: SpiffeIdError,
    },
    /// Certificates cannot be separated.
    #[error("the {what} cannot be read")]
    Certificates {
        /// Which certificates.
        what: &'static str,
        /// The offset of the error.
        #[source]
        source: ConcatenatedDer,
    },
    /// A key cannot be used.
    #[error("the key of SVID {position} cannot be used")]
    Key {
        /// The position of the SVID, counted from 1.
        position: usize,
        /// The problem.
        #[source]
        source: KeyError,
    },
}

/// Why a message is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] MessageError),
    /// It breaks a rule.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// The complete message, as sent by FetchX509SVID.
pub fn svids(context: &X509Context) -> X509svidResponse {
    let svid = |svid: &svid_csi_core::x509_context::Svid| X509svid {
        spiffe_id: svid.identity.id().to_string(),
        x509_svid: concatenate(svid.identity.chain()),
        x509_svid_key: svid.identity.key().der().to_vec(),
        bundle: concatenate(svid.identity.bundle()),
        hint: svid.hint.clone(),
    };
    X509svidResponse {
        svids: context.svids().iter().map(svid).collect(),
        crl: context.crls().to_vec(),
        federated_bundles: context.federated().iter().map(|(name, bundle)| named((name, bundle))).collect(),
    }
}

/// Only the bundles, including the pod's own, as sent by FetchX509Bundles.
pub fn bundles(context: &X509Context) -> X509BundlesResponse {
    X509BundlesResponse { crl: context.crls().to_vec(), bundles: context.bundles().map(named).collect() }
}

fn named((trust_domain, bundle): (&TrustDomain, &[CertificateDer<'static>])) -> (String, Vec<u8>) {
    (trust_domain.id().to_string(), concatenate(bundle))
}

/// The contents of a message, not yet accepted.
///
/// # Errors
/// [`MessageError`], if it cannot be read.
pub fn candidate(message: X509svidResponse) -> Result<ContextCandidate, MessageError> {
    let svids = message.svids.into_iter().enumerate().map(|(index, svid)| svid_candidate(index + 1, svid));
    let svids = svids.collect::<Result<_, _>>()?;
    let (mut federated, mut damaged) = (Bundles::new(), Damaged::new());
    for (name, bundle) in message.federated_bundles {
        match trust_domain(&name).map(|trust_domain| (split(&bundle), trust_domain)) {
            Ok((Ok(bundle), trust_domain)) => _ = federated.insert(trust_domain, bundle),
            Ok((Err(error), trust_domain)) => _ = damaged.insert(trust_domain.as_str().to_owned(), error.to_string()),
            Err(error) => _ = damaged.insert(Quoted::new(name).to_string(), error.to_string()),
        }
    }
    Ok(ContextCandidate { svids, federated, damaged, crls: message.crl })
}

/// Accepts a message as a whole, or refuses it as a whole. Its trust domain is the one it states.
///
/// # Errors
/// [`ReadError`].
pub fn read(message: X509svidResponse, now: SystemTime) -> Result<X509Context, ReadError> {
    accept_as_said(candidate(message)?, now)
}

/// The same for a workload, whose identity may come without a bundle; then no peer can be verified.
///
/// # Errors
/// [`ReadError`].
pub fn read_for_workload(message: X509svidResponse, now: SystemTime) -> Result<X509Context, ReadError> {
    let mut candidate = candidate(message)?;
    candidate.svids.iter_mut().for_each(|svid| _ = svid.candidate.bundle.take_if(|bundle| bundle.is_empty()));
    accept_as_said(candidate, now)
}

fn accept_as_said(candidate: ContextCandidate, now: SystemTime) -> Result<X509Context, ReadError> {
    let trust_domain = candidate.svids.first().ok_or(Rejection::EmptyChain)?.id.trust_domain().clone();
    Ok(accept(candidate, &trust_domain, now)?)
}

/// Reads a message that this driver created from an accepted identity. Only keys and times are checked again, because
/// the bundle may have changed since the chain was accepted.
///
/// # Errors
/// [`ReadError`].
pub fn read_own(message: X509svidResponse, now: SystemTime) -> Result<X509Context, ReadError> {
    let mut candidate = candidate(message)?;
    let bundles: Vec<_> = candidate.svids.iter_mut().map(|svid| svid.candidate.bundle.take()).collect();
    let context = accept_as_said(candidate, now)?;
    Ok(match bundles.into_iter().flatten().next() {
        Some(bundle) => context.with_bundle(&bundle),
        None => context,
    })
}

fn svid_candidate(position: usize, svid: X509svid) -> Result<SvidCandidate, MessageError> {
    let key = Zeroizing::new(svid.x509_svid_key);
    let id = SpiffeId::parse(&svid.spiffe_id).map_err(|source| MessageError::SpiffeId { position, source })?;
    let key = PrivateKey::from_pkcs8_der(&key).map_err(|source| MessageError::Key { position, source })?;
    let chain = certificates("certificate chain", &svid.x509_svid)?;
    let bundle = Some(certificates("trust bundle", &svid.bundle)?);
    Ok(SvidCandidate { id, candidate: Candidate { chain, key, bundle }, hint: svid.hint })
}

fn certificates(what: &'static str, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, MessageError> {
    split(bytes).map_err(|source| MessageError::Certificates { what, source })
}

/// The trust domain named by the key of a bundle: `spiffe://` and its name.
///
/// # Errors
/// [`SpiffeIdError`].
pub(crate) fn trust_domain(name: &str) -> Result<TrustDomain, SpiffeIdError> {
    TrustDomain::parse(name.strip_prefix("spiffe://").ok_or(SpiffeIdError::Scheme)?)
}
