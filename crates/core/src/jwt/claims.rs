//! The claims of a JWT-SVID (JWT-SVID, section 3).

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::rejection::{ClaimProblem, JwtRejection};
use crate::identity::CLOCK_SKEW;
use crate::spiffe_id::SpiffeId;

/// The latest time in a claim: the end of the year 9999.
const LATEST: f64 = 253_402_300_799.0;

/// The claims that every JWT-SVID has, and the optional ones about time.
pub(super) struct Claims {
    /// `sub`.
    pub(super) id: SpiffeId,
    /// `aud`, as a list.
    pub(super) audience: Vec<String>,
    /// `exp`.
    pub(super) expires_at: SystemTime,
    /// `iat`.
    pub(super) issued_at: Option<SystemTime>,
    /// `nbf`.
    not_before: Option<SystemTime>,
}

impl Claims {
    /// Reads the claims: `sub` a SPIFFE ID with a path, `aud` and `exp`; `iat` and `nbf` if they exist.
    pub(super) fn read(claims: &Map<String, Value>) -> Result<Self, JwtRejection> {
        let missing = |claim| JwtRejection::Claim { claim, problem: ClaimProblem::Missing };
        let id = match claims.get("sub") {
            Some(Value::String(id)) => SpiffeId::parse(id).map_err(|problem| JwtRejection::Subject { problem })?,
            Some(_) => return Err(JwtRejection::Claim { claim: "sub", problem: ClaimProblem::NotText }),
            None => return Err(missing("sub")),
        };
        if id.path().is_empty() {
            return Err(JwtRejection::SubjectWithoutPath { id });
        }
        let audience = audience(claims.get("aud").ok_or_else(|| missing("aud"))?)?;
        let expires_at = time(claims, "exp")?.ok_or_else(|| missing("exp"))?;
        Ok(Self { id, audience, expires_at, issued_at: time(claims, "iat")?, not_before: time(claims, "nbf")? })
    }

    /// Checks that it is valid now. The clock of the issuer may be [`CLOCK_SKEW`] ahead, but an expired token
    /// is always refused.
    pub(super) fn check_time(&self, now: SystemTime) -> Result<(), JwtRejection> {
        if now >= self.expires_at {
            return Err(JwtRejection::Expired { expired_at: self.expires_at, now });
        }
        for (claim, from) in [("nbf", self.not_before), ("iat", self.issued_at)] {
            let Some(from) = from else { continue };
            if from.duration_since(now).is_ok_and(|ahead| ahead > CLOCK_SKEW) {
                return Err(JwtRejection::NotYetValid { claim, from, now });
            }
        }
        Ok(())
    }
}

/// One string or a list of strings (RFC 7519, section 4.1.3).
fn audience(value: &Value) -> Result<Vec<String>, JwtRejection> {
    let wrong = |problem| JwtRejection::Claim { claim: "aud", problem };
    let list = match value {
        Value::String(one) => return Ok(vec![one.clone()]),
        Value::Array(list) => list,
        _ => return Err(wrong(ClaimProblem::NotTexts)),
    };
    if list.is_empty() {
        return Err(wrong(ClaimProblem::Missing));
    }
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(ClaimProblem::NotTexts));
    list.iter().map(text).collect()
}

/// Seconds since 1970, whole or not (RFC 7519, section 2).
fn time(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<SystemTime>, JwtRejection> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=LATEST).contains(seconds));
    let since_1970 = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = since_1970.and_then(|since_1970| SystemTime::UNIX_EPOCH.checked_add(since_1970));
    time.map(Some).ok_or(JwtRejection::Claim { claim, problem: ClaimProblem::NotATime })
}
