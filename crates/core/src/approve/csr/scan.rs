//! Whether a CSR that is not judged asks for a SPIFFE identity.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::quoted::Quoted;

const SCHEME: &[u8] = b"spiffe:";

/// Takes base64 as the most lenient parser does.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The text has no block, or one that cannot be read.
pub(in crate::approve) struct Unreadable;

/// The first URI name with the scheme `spiffe`, if there is one.
///
/// These CSRs are of any kind, so no parser is put before them. The bytes of all blocks are searched for a URI name as it
/// is encoded, wherever it stands: in whichever attribute, extension or repetition an issuer may look for it.
pub(in crate::approve) fn find_spiffe_name(text: &[u8]) -> Result<Option<Quoted>, Unreadable> {
    let text = String::from_utf8_lossy(text);
    let mut blocks = text.split_inclusive("-----BEGIN ").skip(1).peekable();
    blocks.peek().ok_or(Unreadable)?;
    let blocks = blocks.map(decode).collect::<Option<Vec<_>>>().ok_or(Unreadable)?;
    Ok(blocks.iter().find_map(|der| find_in(der)))
}

/// What follows the label, up to the next line with hyphens. Lines with a colon are headers.
fn decode(block: &str) -> Option<Vec<u8>> {
    let (_, body) = block.split_once('\n')?;
    let body = body.split_once("-----").map_or(body, |(body, _)| body);
    let lines = body.lines().filter(|line| !line.contains(':'));
    let is_base64 = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    let base64: String = lines.flat_map(str::chars).filter(is_base64).collect();
    LENIENT.decode(base64).ok()
}

/// A URI name has the tag `[6]`, with the constructed form taken for one too, and a length of one to three bytes.
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
