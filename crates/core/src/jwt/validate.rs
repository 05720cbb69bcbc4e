//! Whether to accept a token from another workload.

use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::bundle::JwtBundles;
use super::claims::Claims;
use super::compact::Compact;
use super::rejection::JwtRejection;
use crate::quoted::Quoted;
use crate::spiffe_id::SpiffeId;

/// A JWT-SVID that complies with every rule.
#[derive(Clone, PartialEq)]
pub struct ValidatedJwt {
    /// The ID of the workload: `sub`.
    pub id: SpiffeId,
    /// All claims; `aud` is a list, even if the token had a single string.
    pub claims: Map<String, Value>,
}

/// Validates a JWT-SVID for an audience (JWT-SVID, section 4 and appendix A).
///
/// The key is looked up by its `kid`, only in the bundle of the trust domain of its `sub`. `exp` is compared exactly;
/// `iat` and `nbf` may be [`CLOCK_SKEW`](crate::identity::CLOCK_SKEW) ahead.
///
/// # Errors
/// The first broken rule, in a sentence that does not contain the token.
pub fn validate(
    token: &str,
    audience: &str,
    bundles: &JwtBundles,
    now: SystemTime,
) -> Result<ValidatedJwt, JwtRejection> {
    if audience.is_empty() {
        return Err(JwtRejection::NoAudience);
    }
    let Compact { algorithm, key_id, mut claims, message, signature } = Compact::parse(token)?;
    let key_id = key_id.filter(|id| !id.is_empty()).ok_or(JwtRejection::NoKeyId)?;
    let read = Claims::read(&claims)?;
    let trust_domain = read.id.trust_domain();
    let bundle = bundles.get(trust_domain);
    let bundle = bundle.ok_or_else(|| JwtRejection::NoBundle { trust_domain: trust_domain.clone() })?;
    let key = bundle
        .key(&key_id)
        .ok_or_else(|| JwtRejection::UnknownKey { trust_domain: trust_domain.clone(), key_id: Quoted::new(&key_id) })?;
    if !key.verifies(algorithm, message.as_bytes(), &signature) {
        return Err(JwtRejection::Signature);
    }
    read.check_time(now)?;
    if !read.audience.iter().any(|meant| meant == audience) {
        return Err(JwtRejection::WrongAudience { audience: Quoted::new(audience) });
    }
    claims.insert("aud".to_owned(), read.audience.into());
    Ok(ValidatedJwt { id: read.id, claims })
}

impl fmt::Debug for ValidatedJwt {
    /// Prints only the ID: other claims of a token may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidatedJwt").field("id", &self.id.as_str()).finish_non_exhaustive()
    }
}
