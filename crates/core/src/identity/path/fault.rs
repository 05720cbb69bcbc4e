//! Why a chain does not lead to an anchor, and how much work is done for it.

use crate::quoted::Quoted;

/// The most signatures that are verified for one chain: certificates of one name may have any number of keys.
pub(super) const MAX_SIGNATURES: usize = 100;

/// The most comparisons of names with constraints.
pub(super) const MAX_COMPARISONS: usize = 250_000;

/// Why a chain does not lead to an anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::identity) enum PathFault {
    #[error("no valid certificate in the bundle has issued it")]
    NoIssuer,
    #[error("a signature is wrong (a CA of that name is in the bundle, but with another key)")]
    Signature,
    #[error("it is signed with an algorithm that is not supported")]
    SignatureAlgorithm,
    #[error("an intermediate certificate has expired")]
    Expired,
    #[error("a CA certificate of it is not valid yet")]
    NotYetValid,
    #[error("it is not an X.509 version 3 certificate")]
    Version,
    #[error("it has a critical extension that is not known here")]
    CriticalExtension,
    #[error("one of its issuers is not a CA that may sign others")]
    NotACa,
    #[error("it is longer than one of its CAs allows")]
    TooLong,
    #[error("the extended key usage of a CA certificate of it does not allow both client and server authentication")]
    Usage,
    #[error("a name constraint of one of its CAs excludes the name {name}")]
    Excluded { name: Quoted },
    #[error("a name constraint of one of its CAs does not permit the name {name}")]
    NotPermitted { name: Quoted },
    #[error("the name {name} cannot be compared with a name constraint of one of its CAs")]
    Incomparable { name: Quoted },
    #[error("one of its CAs requires a certificate policy, and none is valid for all of it")]
    Policy,
    #[error("too much work is needed to verify it (over {MAX_SIGNATURES} signatures or {MAX_COMPARISONS} names)")]
    TooMuchWork,
}
