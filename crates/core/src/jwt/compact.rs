//! The compact form of a token (RFC 7515, section 7.1), and the header of a JWT-SVID (JWT-SVID, section 2).

use base64::Engine;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::rejection::JwtRejection;
use super::{BASE64, MAX_TOKEN_BYTES};
use crate::quoted::Quoted;

/// The parts of a token; its signature is not checked yet.
pub(super) struct Compact<'a> {
    /// `alg`.
    pub(super) algorithm: Algorithm,
    /// `kid`.
    pub(super) key_id: Option<String>,
    /// The payload.
    pub(super) claims: Map<String, Value>,
    /// The signed text.
    pub(super) message: &'a str,
    pub(super) signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart: three parts of base64url without padding, in which the first two are JSON objects.
    pub(super) fn parse(token: &'a str) -> Result<Self, JwtRejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtRejection::TooLong { bytes: token.len() });
        }
        let (message, signature) = token.rsplit_once('.').ok_or(JwtRejection::NotCompact)?;
        let (header, payload) = message.split_once('.').ok_or(JwtRejection::NotCompact)?;
        if payload.contains('.') {
            return Err(JwtRejection::NotCompact);
        }
        let (algorithm, key_id) = read_header(object(header, "header")?)?;
        let claims = object(payload, "payload")?;
        let signature = BASE64.decode(signature).map_err(|_| JwtRejection::NotCompact)?;
        Ok(Self { algorithm, key_id, claims, message, signature })
    }
}

fn object(part: &str, what: &'static str) -> Result<Map<String, Value>, JwtRejection> {
    let json = BASE64.decode(part).map(Zeroizing::new).map_err(|_| JwtRejection::NotCompact)?;
    // The parser's own message may quote the text that it could not read.
    serde_json::from_slice(&json).map_err(|_| JwtRejection::NotAnObject { what })
}

/// Reads the algorithm and the key ID. Only these headers and `typ` are allowed: other headers (such as a key sent with
/// the token, or critical extensions) are used to forge tokens.
fn read_header(header: Map<String, Value>) -> Result<(Algorithm, Option<String>), JwtRejection> {
    let (mut algorithm, mut key_id) = (None, None);
    for (name, value) in header {
        let Value::String(value) = value else {
            return Err(JwtRejection::Header { name: Quoted::new(name) });
        };
        match (name.as_str(), value.as_str()) {
            ("alg", name) => {
                let known = Algorithm::parse(name);
                algorithm = Some(known.ok_or_else(|| JwtRejection::Algorithm { found: Quoted::new(name) })?);
            }
            ("kid", _) => key_id = Some(value),
            ("typ", "JWT" | "JOSE") => {}
            ("typ", other) => return Err(JwtRejection::Type { found: Quoted::new(other) }),
            _ => return Err(JwtRejection::Header { name: Quoted::new(name) }),
        }
    }
    Ok((algorithm.ok_or(JwtRejection::NoAlgorithm)?, key_id))
}
