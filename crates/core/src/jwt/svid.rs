//! A JWT-SVID of a workload on this node.

use std::fmt;
use std::time::SystemTime;

use super::audience::Audiences;
use super::claims::Claims;
use super::compact::Compact;
use super::rejection::JwtRejection;
use crate::identity::Validity;
use crate::quoted::Quoted;
use crate::secret::Secret;
use crate::spiffe_id::SpiffeId;
use crate::unix_time;

/// A token to deliver to a workload. Anyone who has it can impersonate the workload to its audiences.
#[derive(Clone)]
pub struct JwtSvid {
    /// The ID of the workload: `sub`.
    pub id: SpiffeId,
    /// The token, in compact form.
    pub token: Secret,
    /// The audiences: `aud`; never empty.
    pub audience: Vec<String>,
    /// When it was issued: `iat`, or when it arrived.
    pub issued_at: SystemTime,
    /// When it expires: `exp`.
    pub expires_at: SystemTime,
    /// Its purpose in the words of the administrator, if a workload has several; else empty.
    pub hint: String,
}

impl JwtSvid {
    /// Reads a token that an issuer sent for a workload on this node, for the given ID.
    ///
    /// The issuer is trusted, so the signature is not checked here. But the token must be a JWT-SVID for that ID, must
    /// not be expired, and must be for the requested audiences and no others, because any other recipient could
    /// impersonate the workload with it.
    ///
    /// # Errors
    /// The first broken rule, in a sentence that does not contain the token.
    pub fn read(
        token: Secret,
        id: &SpiffeId,
        audiences: &Audiences,
        hint: String,
        now: SystemTime,
    ) -> Result<Self, JwtRejection> {
        let claims = Claims::read(&Compact::parse(token.expose())?.claims)?;
        if claims.id != *id {
            return Err(JwtRejection::WrongSubject { expected: id.clone(), found: claims.id });
        }
        if let Some(audience) = audiences.as_slice().iter().find(|asked| !claims.audience.contains(asked)) {
            return Err(JwtRejection::WrongAudience { audience: Quoted::new(audience) });
        }
        if let Some(audience) = claims.audience.iter().find(|found| !audiences.as_slice().contains(found)) {
            return Err(JwtRejection::UnwantedAudience { audience: Quoted::new(audience) });
        }
        claims.check_time(now)?;
        let Claims { id, audience, expires_at, issued_at, .. } = claims;
        Ok(Self { id, token, audience, issued_at: issued_at.unwrap_or(now), expires_at, hint })
    }

    /// Its validity, which determines when it is renewed.
    pub fn validity(&self) -> Validity {
        Validity { not_before: self.issued_at, not_after: self.expires_at }
    }
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("JwtSvid");
        debug.field("id", &self.id.as_str()).field("audience", &self.audience);
        debug.field("expires_at", &format_args!("{}", unix_time::rfc3339(self.expires_at))).finish_non_exhaustive()
    }
}
