//! The PEM text of a CSR.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::approve::fault::PemFault;

/// The longest text of a request for an identity, in bytes. The largest that could be approved, with an RSA key of 8192
/// bits and the longest ID, has less than half of that.
pub const MAX_PEM_BYTES: usize = 16 * 1024;

/// The longest text of any other request. cert-manager itself reads up to 36,500 bytes (`internal/pem`).
const MAX_FOREIGN_BYTES: usize = 64 * 1024;

const LABEL: &str = "CERTIFICATE REQUEST";

/// What some tools write instead (RFC 7468, section 7).
const FOREIGN_LABELS: [&str; 2] = [LABEL, "NEW CERTIFICATE REQUEST"];

/// Reads the CSR of a request for an identity: one block with nothing around it except white space at its end.
///
/// Parsers differ in what they skip: text before a block, blocks with another label, headers. The issuer uses another
/// parser, which must not find a different CSR. Go's `encoding/pem` accepts more, but reads the same from every text
/// that is accepted here.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, PemFault> {
    read(text, &[LABEL], MAX_PEM_BYTES)
}

/// Reads the CSR of any other request, in the same form.
pub(super) fn decode_foreign(text: &[u8]) -> Result<Vec<u8>, PemFault> {
    read(text, &FOREIGN_LABELS, MAX_FOREIGN_BYTES)
}

fn read(text: &[u8], labels: &[&str], limit: usize) -> Result<Vec<u8>, PemFault> {
    if text.len() > limit {
        return Err(PemFault::TooLarge { bytes: text.len(), limit });
    }
    let text = str::from_utf8(text).ok();
    let body = text.and_then(|text| labels.iter().find_map(|label| body(text, label)));
    let lines = body.ok_or(PemFault::NotOneBlock)?.split('\n').map(without_return);
    STANDARD.decode(lines.collect::<String>()).map_err(|_| PemFault::Base64)
}

/// The text between the two lines of the block, with the line breaks around it.
fn body<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let text = text.strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let (body, end) = text.split_once(&format!("-----END {label}-----"))?;
    let starts_a_line = body.starts_with('\n') || body.starts_with("\r\n");
    let is_block = starts_a_line && body.ends_with('\n') && !body.contains("-----");
    // A carriage return in the middle of a line is not white space to Go.
    let is_alone = end.replace("\r\n", "\n").bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
    (is_block && is_alone).then_some(body)
}

fn without_return(line: &str) -> &str {
    line.strip_suffix('\r').unwrap_or(line)
}
