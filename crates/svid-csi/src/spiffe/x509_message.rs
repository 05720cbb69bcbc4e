//! The X.509 messages of the Workload API and the Broker API, to and from what a pod is given.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use svid_csi_core::identity::{Candidate, KeyError, PrivateKey, Rejection};
use svid_csi_core::spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
use svid_csi_core::x509_context::{
    Bundles, ConcatenatedDer, ContextCandidate, SvidCandidate, X509Context, accept, concatenate, split,
};
use svid_csi_proto::workload::{X509BundlesResponse, X509svid, X509svidResponse};
use zeroize::Zeroizing;

/// The most bytes of one message that is read: more than all that may be accepted.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Why a message cannot be read. Holds nothing of a key.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// A name of an SVID is not a SPIFFE ID.
    #[error("the spiffe_id of SVID {position} is not a SPIFFE ID")]
    SpiffeId {
        /// Which SVID, counted from 1.
        position: usize,
        /// The problem.
        #[source]
        source: SpiffeIdError,
    },
    /// The certificates of another trust domain cannot be told apart.
    #[error("the bundle of the federated trust domain {trust_domain} cannot be read")]
    Federated {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// Where they end.
        #[source]
        source: ConcatenatedDer,
    },
    /// A name of a bundle is not a trust domain.
    #[error("the name of a federated bundle is not the SPIFFE ID of a trust domain")]
    TrustDomain(#[source] SpiffeIdError),
    /// Certificates cannot be told apart.
    #[error("the {what} cannot be read")]
    Certificates {
        /// Which certificates.
        what: &'static str,
        /// Where they end.
        #[source]
        source: ConcatenatedDer,
    },
    /// A key cannot be used.
    #[error("the key of SVID {position} cannot be used")]
    Key {
        /// Which SVID, counted from 1.
        position: usize,
        /// The problem.
        #[source]
        source: KeyError,
    },
}

/// Why a message is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] MessageError),
    /// It breaks a rule.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// The whole of it, as FetchX509SVID sends it.
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

/// The bundles alone, the pod's own among them, as FetchX509Bundles sends them.
pub fn bundles(context: &X509Context) -> X509BundlesResponse {
    X509BundlesResponse { crl: context.crls().to_vec(), bundles: context.bundles().map(named).collect() }
}

fn named((trust_domain, bundle): (&TrustDomain, &[CertificateDer<'static>])) -> (String, Vec<u8>) {
    (trust_domain.id().to_string(), concatenate(bundle))
}

/// The contents of a message, to be accepted or refused.
///
/// # Errors
/// [`MessageError`], if it cannot be read at all.
pub fn candidate(message: X509svidResponse) -> Result<ContextCandidate, MessageError> {
    let svids = message.svids.into_iter().enumerate().map(|(index, svid)| svid_candidate(index + 1, svid));
    let svids = svids.collect::<Result<_, _>>()?;
    let federated = message.federated_bundles.into_iter().map(|(name, bundle)| {
        let trust_domain = trust_domain(&name).map_err(MessageError::TrustDomain)?;
        match split(&bundle) {
            Ok(bundle) => Ok((trust_domain, bundle)),
            Err(source) => Err(MessageError::Federated { trust_domain, source }),
        }
    });
    Ok(ContextCandidate { svids, federated: federated.collect::<Result<Bundles, _>>()?, crls: message.crl })
}

/// Takes a message as a whole, or refuses it as a whole. Of which trust domain it is, it says itself.
///
/// # Errors
/// [`ReadError`].
pub fn read(message: X509svidResponse, now: SystemTime) -> Result<X509Context, ReadError> {
    accept_as_said(candidate(message)?, now)
}

/// The same for a workload, whose identity may come without a bundle: then no peer can be verified, and none is.
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

/// Takes up a message that this driver made of what it had accepted. Only keys and times are looked at once more: the bundle
/// may have changed since the chain was accepted.
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

/// The trust domain that a bundle is named by: `spiffe://` and its name.
///
/// # Errors
/// [`SpiffeIdError`].
pub(crate) fn trust_domain(name: &str) -> Result<TrustDomain, SpiffeIdError> {
    TrustDomain::parse(name.strip_prefix("spiffe://").ok_or(SpiffeIdError::Scheme)?)
}
