//! Why a chain does not lead to an anchor, and limits on the work done for it.

use crate::quoted::Quoted;

/// The maximum number of signatures verified for one chain: any number of keys may have certificates of the same name.
pub(super) const MAX_SIGNATURES: usize = 100;

/// The maximum number of comparisons of names with constraints.
pub(super) const MAX_COMPARISONS: usize = 250_000;

/// Why a chain does not lead to an anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::identity) enum PathFault {
    #[error("no valid certificate in the bundle issued the chain")]
    NoIssuer,
    #[error("a signature in the chain is wrong (the bundle has a CA of that name, but with another key)")]
    Signature,
    #[error("a certificate in the chain is signed with an algorithm that is not supported")]
    SignatureAlgorithm,
    #[error("an intermediate certificate has expired")]
    Expired,
    #[error("a CA certificate in the chain is not valid yet")]
    NotYetValid,
    #[error("a certificate in the chain is not of X.509 version 3")]
    Version,
    #[error("a certificate in the chain has an unknown critical extension")]
    CriticalExtension,
    #[error("an issuer in the chain is not a CA that may sign others")]
    NotACa,
    #[error("the chain is longer than one of its CAs allows")]
    TooLong,
    #[error(
        "the extended key usage of a CA certificate in the chain does not allow both client and server authentication"
    )]
    Usage,
    #[error("a name constraint of a CA in the chain excludes the name {name}")]
    Excluded { name: Quoted },
    #[error("a name constraint of a CA in the chain does not permit the name {name}")]
    NotPermitted { name: Quoted },
    #[error("the name {name} cannot be compared with a name constraint of a CA in the chain")]
    Incomparable { name: Quoted },
    #[error("a CA in the chain requires a certificate policy, and no policy is valid for the whole chain")]
    Policy,
    #[error("verifying the chain takes too much work (over {MAX_SIGNATURES} signatures or {MAX_COMPARISONS} names)")]
    TooMuchWork,
}
