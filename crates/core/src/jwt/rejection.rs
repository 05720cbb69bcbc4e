//! Why a token is refused.

use std::time::SystemTime;

use super::MAX_TOKEN_BYTES;
use crate::quoted::Quoted;
use crate::spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
use crate::unix_time::rfc3339;

/// Why a JWT-SVID is refused: one sentence each. Never contains the token or its signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtRejection {
    /// No audience was given.
    #[error("an audience is needed to validate a JWT-SVID, but none was given")]
    NoAudience,
    /// Over [`MAX_TOKEN_BYTES`].
    #[error("the JWT-SVID has {bytes} bytes, at most {MAX_TOKEN_BYTES} are read")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// JWT-SVID, section 5.1.
    #[error("the JWT-SVID is not in compact form (three parts of base64url without padding, with dots between them)")]
    NotCompact,
    /// A part that is not JSON, or not an object.
    #[error("the {what} of the JWT-SVID is not a JSON object")]
    NotAnObject {
        /// `header` or `payload`.
        what: &'static str,
    },
    /// JWT-SVID, section 2.1.
    #[error("the header of the JWT-SVID names no algorithm (`alg`)")]
    NoAlgorithm,
    /// JWT-SVID, section 2.1.
    #[error(
        "the JWT-SVID is signed with {found}, which is not one of RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384 and PS512"
    )]
    Algorithm {
        /// The value of `alg`.
        found: Quoted,
    },
    /// JWT-SVID, section 2.3.
    #[error("the type of the token (`typ`) is {found}, but a JWT-SVID has JWT, JOSE or no type")]
    Type {
        /// The value of `typ`.
        found: Quoted,
    },
    /// JWT-SVID, section 2: any other header, or one that is not a string.
    #[error("a JWT-SVID must not have the header {name} (only `alg`, `kid` and `typ`, each a string)")]
    Header {
        /// Its name.
        name: Quoted,
    },
    /// It does not name the key it is signed with.
    #[error("the header of the JWT-SVID names no key (`kid`)")]
    NoKeyId,
    /// A claim.
    #[error("the claim `{claim}` of the JWT-SVID {problem}")]
    Claim {
        /// Which claim.
        claim: &'static str,
        /// The fault of the claim.
        problem: ClaimProblem,
    },
    /// JWT-SVID, section 3.1.
    #[error("the claim `sub` of the JWT-SVID is not a SPIFFE ID: {problem}")]
    Subject {
        /// Why it is not one.
        problem: SpiffeIdError,
    },
    /// The ID of a trust domain, which is not a workload.
    #[error("the JWT-SVID is for {id}, which has no path, so it is not a workload's ID")]
    SubjectWithoutPath {
        /// The ID.
        id: SpiffeId,
    },
    /// The token of another workload.
    #[error("the JWT-SVID is for {found}, but {expected} was requested")]
    WrongSubject {
        /// The requested ID.
        expected: SpiffeId,
        /// The ID in the token.
        found: SpiffeId,
    },
    /// SPIFFE Workload API, section 6.3.
    #[error("there is no JWT bundle of the trust domain {trust_domain} to verify the JWT-SVID with")]
    NoBundle {
        /// The trust domain of `sub`.
        trust_domain: TrustDomain,
    },
    /// A key that the trust domain does not have, or no longer.
    #[error("the JWT bundle of the trust domain {trust_domain} has no key {key_id}")]
    UnknownKey {
        /// The trust domain of `sub`.
        trust_domain: TrustDomain,
        /// The value of `kid`.
        key_id: Quoted,
    },
    /// It is not signed with that key and algorithm.
    #[error("the signature of the JWT-SVID is wrong")]
    Signature,
    /// It has expired.
    #[error("the JWT-SVID expired at {}, now is {}", rfc3339(*.expired_at), rfc3339(*.now))]
    Expired {
        /// `exp`.
        expired_at: SystemTime,
        /// The time of this node.
        now: SystemTime,
    },
    /// It is not valid yet.
    #[error("the JWT-SVID is valid only from {} (`{claim}`), now is {}: check the clocks of the issuer and this node", rfc3339(*.from), rfc3339(*.now))]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// When it becomes valid.
        from: SystemTime,
        /// The time of this node.
        now: SystemTime,
    },
    /// JWT-SVID, section 3.2.
    #[error("the JWT-SVID is not meant for the audience {audience}")]
    WrongAudience {
        /// The audience that is not in `aud`.
        audience: Quoted,
    },
    /// A token that others could also use.
    #[error("the JWT-SVID is also meant for the audience {audience}, which was not requested")]
    UnwantedAudience {
        /// The audience in `aud`.
        audience: Quoted,
    },
}

/// A fault of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimProblem {
    /// Missing, or an empty list.
    #[error("is missing")]
    Missing,
    /// Of another type.
    #[error("is not a string")]
    NotText,
    /// Neither a string nor a list of strings.
    #[error("is neither a string nor a list of strings")]
    NotTexts,
    /// Not a number, or out of range.
    #[error("is not a number of seconds since 1970")]
    NotATime,
}
