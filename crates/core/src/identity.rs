//! Identities: a private key, the certificates that go with it, and the bundle to verify others with.
//!
//! A source returns a [`Candidate`]; [`accept`] turns it into an [`Identity`] if every rule holds, and nothing else
//! does.

mod bundle;
mod form;
mod key;
mod key_type;
mod leaf;
mod path;
mod peer;
mod rejection;
mod trust;
mod validity;

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;

pub use self::bundle::{BundleError, MAX_BUNDLE_TEXT, TrustBundle};
pub use self::key::{KeyError, PrivateKey};
pub use self::key_type::{KeyType, UnknownKeyType};
pub(crate) use self::leaf::is_authority;
pub use self::peer::peer_id;
pub use self::rejection::{KeyUsageProblem, MAX_SVIDS, Place, Rejection};
pub use self::trust::Skipped;
pub(crate) use self::trust::{Anchors, distinct_anchors, is_self_issued, issuers, usable_anchors};
pub use self::validity::Validity;
pub use crate::pem_text::PemError;
use crate::pem_text::{self, Block};
use crate::spiffe_id::SpiffeId;

/// The maximum size of a certificate chain, in bytes of DER.
pub const MAX_CHAIN_BYTES: usize = 64 * 1024;

/// The maximum size of a trust bundle, in bytes of DER.
pub const MAX_BUNDLE_BYTES: usize = 1024 * 1024;

/// How far the clock of an issuer may be ahead of this node's.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The output of a source, before it is checked.
#[derive(Debug)]
pub struct Candidate {
    /// The certificates, the leaf first, each signed by the next.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the leaf.
    pub key: PrivateKey,
    /// The CA certificates of the trust domain; `None` if the administrator did not configure any.
    pub bundle: Option<Vec<CertificateDer<'static>>>,
}

/// The conditions a candidate must match.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The requested ID.
    pub id: SpiffeId,
    /// The time on this node.
    pub now: SystemTime,
}

/// An X509-SVID (X509-SVID, sections 2 to 5) that complies with every rule, with its key and trust bundle. A clone
/// shares the key instead of copying it.
#[derive(Clone)]
pub struct Identity {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKey>,
    bundle: Vec<CertificateDer<'static>>,
    skipped: Vec<Skipped>,
    validity: Validity,
    accepted: SystemTime,
    serial: String,
    untrusted: Option<Box<Rejection>>,
}

/// Accepts a candidate as a whole, or refuses it as a whole.
///
/// The leaf must be an X509-SVID for the expected ID (further DNS names are fine), the key must be its key, the time
/// must be within its validity (an issuer's clock may be [`CLOCK_SKEW`] ahead), and the chain must lead to a valid
/// certificate of the bundle, for client and server use both. Every other certificate of the chain must be a CA.
/// Certificates that are in the bundle twice are kept once, and those that are not of a CA are [skipped](Identity::skipped)
/// as long as others are left. Without a bundle the chain is not verified: no trust anchor is known.
///
/// # Errors
/// The first broken rule, in a sentence.
pub fn accept(candidate: Candidate, expected: &Expected) -> Result<Identity, Rejection> {
    match accept_any_chain(candidate, expected)? {
        Identity { untrusted: Some(rejection), .. } => Err(*rejection),
        identity => Ok(identity),
    }
}

/// Accepts a candidate as [`accept`] does, but also if its chain does not lead to the bundle: see
/// [`Identity::untrusted`].
///
/// # Errors
/// The first other broken rule, in a sentence.
pub fn accept_any_chain(candidate: Candidate, expected: &Expected) -> Result<Identity, Rejection> {
    let Candidate { chain, key, bundle } = candidate;
    check_size("certificate chain", &chain, MAX_CHAIN_BYTES)?;
    check_size("trust bundle", bundle.as_deref().unwrap_or_default(), MAX_BUNDLE_BYTES)?;
    let leaf = leaf::read(chain.first().ok_or(Rejection::EmptyChain)?)?;
    if leaf.id != expected.id {
        return Err(Rejection::WrongId { expected: expected.id.clone(), found: leaf.id });
    }
    if leaf.public_key != key.public_key_der() {
        return Err(Rejection::KeyMismatch);
    }
    let at = time_to_verify_at(&leaf.validity, expected.now)?;
    trust::check_intermediates(&chain)?;
    let Anchors { certificates: bundle, skipped } = match bundle {
        None => Anchors::default(),
        Some(bundle) if bundle.is_empty() => return Err(Rejection::EmptyBundle),
        Some(bundle) => usable_anchors(bundle)?,
    };
    let verified = if bundle.is_empty() { Ok(()) } else { trust::verify(&chain, &bundle, at) };
    let untrusted = match verified {
        Err(rejection @ Rejection::Untrusted { .. }) => Some(Box::new(rejection)),
        other => other.map(|()| None)?,
    };
    let leaf::Leaf { id, validity, serial, .. } = leaf;
    let (key, accepted) = (Arc::new(key), expected.now);
    Ok(Identity { id, chain, key, bundle, skipped, validity, accepted, serial, untrusted })
}

pub(crate) fn check_size(
    what: &'static str,
    certificates: &[CertificateDer<'_>],
    limit: usize,
) -> Result<(), Rejection> {
    let bytes = size(certificates);
    if bytes > limit { Err(Rejection::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

/// In bytes.
pub(crate) fn size(certificates: &[CertificateDer<'_>]) -> usize {
    certificates.iter().map(|der| der.len()).sum()
}

/// Now, or the start of a validity that begins within the allowed clock skew.
fn time_to_verify_at(validity: &Validity, now: SystemTime) -> Result<SystemTime, Rejection> {
    let Validity { not_before, not_after } = *validity;
    if now > not_after {
        return Err(Rejection::Expired { not_after, now });
    }
    match not_before.duration_since(now) {
        Ok(ahead) if ahead > CLOCK_SKEW => Err(Rejection::NotYetValid { not_before, now }),
        Ok(_) => Ok(not_before),
        Err(_) => Ok(now),
    }
}

impl Identity {
    /// The SPIFFE ID.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificates, the leaf first; never empty.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key of the leaf.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The CA certificates of the trust domain, without duplicates; empty if the administrator did not configure any.
    pub fn bundle(&self) -> &[CertificateDer<'static>] {
        &self.bundle
    }

    /// The certificates of the bundle that were skipped.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The validity of the leaf, as the certificate says.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// When the identity can be used on this node, which determines when it is renewed.
    ///
    /// Issuers backdate certificates, by ten seconds or by an hour. Counted from such a date, 2/3 of the lifetime of a
    /// short certificate may be over on arrival, and each renewal would start the next one at once.
    pub fn held(&self) -> Validity {
        let Validity { not_before, not_after } = self.validity;
        Validity { not_before: self.accepted.max(not_before), not_after }
    }

    /// Why the chain does not lead to the bundle; `None` if it does. Only [`accept_any_chain`] accepts such a chain.
    pub fn untrusted(&self) -> Option<&Rejection> {
        self.untrusted.as_deref()
    }

    /// The serial number of the leaf, in lower-case hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Replaces the bundle of the trust domain, which the source updates separately. Not checked against the chain:
    /// the bundle changes before all identities are renewed.
    pub(crate) fn with_bundle(&self, bundle: &[CertificateDer<'static>]) -> Self {
        Self { bundle: bundle.to_vec(), skipped: Vec::new(), ..self.clone() }
    }

    /// SHA-256 of the bundle, in lower-case hexadecimal; the order of the certificates does not matter.
    pub fn bundle_digest(&self) -> String {
        bundle_digest(&self.bundle)
    }
}

/// Whether a chain that was accepted before leads to this bundle too, at the time `now`.
///
/// # Errors
/// The reason why it does not.
pub fn leads_to(chain: &[CertificateDer<'_>], bundle: &[CertificateDer<'_>], now: SystemTime) -> Result<(), Rejection> {
    trust::verify(chain, bundle, now)
}

/// Certificates as PEM text, a block each.
pub fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = pem_text::encode(Block::Certificate, certificates.iter().map(AsRef::as_ref));
    std::mem::take(&mut *text)
}

/// The SPIFFE ID of a leaf certificate that complies with the rules.
pub(crate) fn spiffe_id_of(leaf: &CertificateDer<'_>) -> Option<SpiffeId> {
    leaf::read(leaf).ok().map(|leaf| leaf.id)
}

/// SHA-256 of a bundle without duplicates, in lower-case hexadecimal; the order of the certificates does not matter.
pub fn bundle_digest(bundle: &[CertificateDer<'_>]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for der in sorted(bundle) {
        context.update(der);
    }
    hex(context.finish().as_ref())
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Identity");
        debug.field("id", &self.id.as_str()).field("serial", &self.serial);
        debug.field("validity", &format_args!("{}", self.validity)).finish_non_exhaustive()
    }
}

pub(crate) fn sorted<'a>(bundle: &'a [CertificateDer<'_>]) -> Vec<&'a [u8]> {
    let mut bundle: Vec<&[u8]> = bundle.iter().map(AsRef::as_ref).collect();
    bundle.sort_unstable();
    bundle
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
