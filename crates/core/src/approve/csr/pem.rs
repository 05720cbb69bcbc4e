//! The text a CSR comes in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fault::PemFault;

/// The longest text that is read, in bytes. The largest that could be approved, with an RSA key of 8192 bits and the
/// longest ID, has not half of that.
pub const MAX_PEM_BYTES: usize = 16 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";

/// Reads one block with nothing around it but line ends.
///
/// Parsers differ in what they skip: text before a block, blocks with another label, headers. Whoever signs has another
/// parser, and must not find another CSR than the one that was judged.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, PemFault> {
    if text.len() > MAX_PEM_BYTES {
        return Err(PemFault::TooLarge { bytes: text.len() });
    }
    let body = body(text).ok_or(PemFault::NotOneBlock)?;
    let lines = body.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    STANDARD.decode(lines.collect::<String>()).map_err(|_| PemFault::Base64)
}

/// What stands between the two lines, with the ends of line around it.
fn body(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text.trim_ascii_end()).ok()?;
    let body = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
    let starts_a_line = body.starts_with('\n') || body.starts_with("\r\n");
    (starts_a_line && body.ends_with('\n') && !body.contains("-----")).then_some(body)
}
