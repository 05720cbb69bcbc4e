//! The identity of a peer in a handshake.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;

use super::leaf;
use super::rejection::Rejection;
use super::{MAX_CHAIN_BYTES, check_size, time_to_verify_at, trust};
use crate::spiffe_id::{SpiffeId, TrustDomain};

/// The SPIFFE ID of the peer that shows this chain: an X509-SVID that leads to the bundle of its own trust domain, and
/// to no other (X509-SVID, section 5). The handshake verifies that the peer has the key.
///
/// # Errors
/// The first broken rule, in a sentence; [`Rejection::NoBundle`] if `bundle_of` has none.
pub fn peer_id<'a>(
    chain: &[CertificateDer<'_>],
    bundle_of: impl FnOnce(&TrustDomain) -> Option<&'a [CertificateDer<'static>]>,
    now: SystemTime,
) -> Result<SpiffeId, Rejection> {
    check_size("certificate chain", chain, MAX_CHAIN_BYTES)?;
    let leaf = leaf::read(chain.first().ok_or(Rejection::EmptyChain)?)?;
    let at = time_to_verify_at(&leaf.validity, now)?;
    trust::check_intermediates(chain)?;
    let trust_domain = leaf.id.trust_domain();
    let bundle = bundle_of(trust_domain).ok_or_else(|| Rejection::NoBundle { trust_domain: trust_domain.clone() })?;
    trust::verify(chain, bundle, at)?;
    Ok(leaf.id)
}
