//! The rules for a CSR (RFC 2986).

mod attributes;
mod extensions;
mod key;
mod parts;
mod pem;
mod scan;

use self::parts::Parts;
pub use self::pem::MAX_PEM_BYTES;
pub(super) use self::scan::find_spiffe_name;
use super::fault::{CsrFault, DerFault, Reasons};
use super::policy::Policy;
use crate::quoted::Quoted;
use crate::spiffe_id::SpiffeId;

/// Checks all of a CSR, and returns the SPIFFE ID it asks for if it asks for exactly one.
pub(super) fn check(text: &[u8], policy: &Policy, reasons: &mut Reasons) -> Option<SpiffeId> {
    let der = reasons.take(pem::decode(text).map_err(CsrFault::from))?;
    let parts = reasons.take(Parts::read(&der).map_err(CsrFault::from))?;
    if let Some(subject) = parts.subject_text() {
        reasons.add(CsrFault::Subject { subject });
    }
    if let Some(key) = reasons.take(key::read(parts.public_key)) {
        if !policy.key_types.contains(&key.key_type) {
            reasons.add(CsrFault::KeyType { found: key.key_type, allowed: policy.key_types.clone() });
        }
        reasons.take(key.verify(&parts));
    }
    let extensions = attributes::read(parts.attributes, reasons);
    let uris = extensions.map(|extensions| extensions::check(extensions, reasons));
    only_id(uris??, reasons)
}

/// The one URI, as a SPIFFE ID.
fn only_id(uris: Vec<&[u8]>, reasons: &mut Reasons) -> Option<SpiffeId> {
    let [uri] = uris[..] else {
        reasons.add(CsrFault::Uris { found: uris.len() });
        return None;
    };
    // An IA5String is ASCII.
    let text = std::str::from_utf8(uri).ok().filter(|text| text.is_ascii());
    let text = reasons.take(text.ok_or(CsrFault::from(DerFault::Malformed { part: "its URI" })))?;
    let id = SpiffeId::parse(text).map_err(|problem| CsrFault::SpiffeId { uri: Quoted::new(text), problem });
    reasons.take(id)
}
