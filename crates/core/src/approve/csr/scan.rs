//! Whether a CSR that is not judged asks for a SPIFFE identity.

use super::parts::Parts;
use super::pem;
use crate::approve::fault::CsrFault;
use crate::quoted::Quoted;

const SCHEME: &[u8] = b"spiffe:";

/// The first URI name with the scheme `spiffe`, if there is one.
///
/// These CSRs may hold anything, so they are not parsed. All bytes are searched for an encoded URI name, because an
/// issuer may look for it in any attribute or extension, or in a repeated one.
pub(in crate::approve) fn find_spiffe_name(text: &[u8]) -> Result<Option<Quoted>, CsrFault> {
    let der = pem::decode_foreign(text)?;
    Parts::read(&der)?;
    Ok(find_in(&der))
}

/// A URI name has the tag `[6]`, primitive or constructed, and a length of one to three bytes: the text is
/// too short for a longer one.
fn find_in(der: &[u8]) -> Option<Quoted> {
    let starts = der.windows(SCHEME.len()).enumerate();
    let mut starts = starts.filter(|(_, window)| window.eq_ignore_ascii_case(SCHEME)).map(|(start, _)| start);
    starts.find_map(|start| {
        let len = match der[..start] {
            [.., 0x86 | 0xa6, 0x82, high, low] => u16::from_be_bytes([high, low]).into(),
            [.., 0x86 | 0xa6, 0x81, len] | [.., 0x86 | 0xa6, len @ ..=0x7f] => usize::from(len),
            _ => return None,
        };
        Some(Quoted::new(&der[start..der.len().min(start + len)]))
    })
}
