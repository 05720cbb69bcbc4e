//! Why an identity is refused.

use std::fmt;
use std::time::SystemTime;

use crate::quoted::Quoted;
use crate::spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
use crate::unix_time::rfc3339;

pub(super) const NOT_A_CA: &str = "is not a CA certificate that may sign others";

/// The maximum number of SVIDs for one pod.
pub const MAX_SVIDS: usize = 32;

/// A certificate of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first certificate of the chain.
    Leaf,
    /// A later certificate of the chain; `position` counts from 1, which is the leaf.
    Chain {
        /// Its position.
        position: usize,
        /// The length of the chain.
        of: usize,
    },
    /// A certificate of the trust bundle; `position` counts from 1.
    Bundle {
        /// Its position.
        position: usize,
        /// The size of the bundle.
        of: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Leaf => f.write_str("the leaf certificate"),
            Place::Chain { position, of } => write!(f, "certificate {position} of {of} in the chain"),
            Place::Bundle { position, of } => write!(f, "certificate {position} of {of} in the trust bundle"),
        }
    }
}

/// Why a candidate is not accepted: one sentence each, suitable for a pod event. Never contains any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The chain has no certificate.
    #[error("the source sent no certificate")]
    EmptyChain,
    /// The bundle has no certificate.
    #[error("the source sent an empty trust bundle, with which no peer can be verified")]
    EmptyBundle,
    /// The chain or the bundle is too large.
    #[error("the {what} has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// `certificate chain` or `trust bundle`.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a certificate, or one with an extension that cannot be read.
    #[error("{place} cannot be read: {reason}")]
    Unreadable {
        /// Which one.
        place: Place,
        /// The parser's message.
        reason: String,
    },
    /// X509-SVID, section 2.
    #[error("the leaf certificate has {found} URI names; an X509-SVID has exactly one, its SPIFFE ID")]
    UriNames {
        /// The number of URI names.
        found: usize,
    },
    /// The URI name is not a SPIFFE ID.
    #[error("the URI name of the leaf certificate is not a SPIFFE ID: {problem}")]
    NotASpiffeId {
        /// Why it is not one.
        problem: SpiffeIdError,
    },
    /// X509-SVID, section 3.1.
    #[error("the leaf certificate is for {id}, which has no path, so it is not a workload's ID")]
    IdWithoutPath {
        /// The ID.
        id: SpiffeId,
    },
    /// The identity of another workload.
    #[error("the leaf certificate is for {found}, but {expected} was requested")]
    WrongId {
        /// The requested ID.
        expected: SpiffeId,
        /// The ID in the certificate.
        found: SpiffeId,
    },
    /// An identity of a trust domain other than the source's.
    #[error("the identity {id} is not of the source's trust domain {trust_domain}")]
    ForeignTrustDomain {
        /// The ID.
        id: SpiffeId,
        /// The source's trust domain.
        trust_domain: TrustDomain,
    },
    /// More SVIDs than a pod may have.
    #[error("the source sent {svids} SVIDs for one pod, at most {} are allowed", MAX_SVIDS)]
    TooMany {
        /// How many.
        svids: usize,
    },
    /// No SVID has the hint that the volume asks for.
    #[error("no SVID of the pod has the hint {} ({}): register it with that hint, or leave out svid-csi/hint", Quoted::new(.hint.as_bytes()), hints(.there))]
    NoSuchHint {
        /// The requested hint.
        hint: String,
        /// The available hints.
        there: Vec<String>,
    },
    /// X509-SVID, section 3.1, and RFC 5280, section 4.1.2.6.
    #[error("the leaf certificate has an empty subject, so its subject alternative name must be marked critical")]
    NamesNotCritical,
    /// X509-SVID, section 4.3.
    #[error("the key usage of the leaf certificate {problem}")]
    KeyUsage {
        /// The fault.
        problem: KeyUsageProblem,
    },
    /// X509-SVID, section 4.4.
    #[error(
        "the extended key usage of the leaf certificate lacks {missing} authentication; it needs both client and server, or none at all"
    )]
    ExtendedKeyUsage {
        /// `client` or `server`.
        missing: &'static str,
    },
    /// X509-SVID, section 4.1.
    #[error("the leaf certificate is a CA certificate, which must not be used to authenticate")]
    LeafIsCa,
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the leaf certificate")]
    KeyMismatch,
    /// It is not valid yet.
    #[error("the leaf certificate is valid only from {}, now is {}: check the clocks of the issuer and this node", rfc3339(*.not_before), rfc3339(*.now))]
    NotYetValid {
        /// When it becomes valid.
        not_before: SystemTime,
        /// The time of this node.
        now: SystemTime,
    },
    /// It has expired.
    #[error("the leaf certificate expired at {}, now is {}", rfc3339(*.not_after), rfc3339(*.now))]
    Expired {
        /// When it expired.
        not_after: SystemTime,
        /// The time of this node.
        now: SystemTime,
    },
    /// X509-SVID, section 3.2.
    #[error("{place} {NOT_A_CA}")]
    NotACa {
        /// Which one.
        place: Place,
    },
    /// The chain does not lead to the bundle.
    #[error("the certificate chain does not lead to the trust bundle: {reason}")]
    Untrusted {
        /// Why.
        reason: String,
    },
    /// There is no bundle to verify it with.
    #[error("there is no trust bundle of the leaf certificate's trust domain, {trust_domain}, to verify it with")]
    NoBundle {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
}

fn hints(there: &[String]) -> String {
    match there {
        [] => "none has any".to_owned(),
        there => {
            let quoted: Vec<String> = there.iter().map(|hint| Quoted::new(hint.as_bytes()).to_string()).collect();
            format!("there are {}", quoted.join(", "))
        }
    }
}

/// A fault in the key usage of a leaf (X509-SVID, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyUsageProblem {
    /// No key usage.
    #[error("is missing")]
    Missing,
    /// Not critical.
    #[error("is not marked critical")]
    NotCritical,
    /// No `digitalSignature`.
    #[error("lacks digitalSignature")]
    NoDigitalSignature,
    /// `keyCertSign`.
    #[error("has keyCertSign, which only CA certificates may have")]
    CertSign,
    /// `cRLSign`.
    #[error("has cRLSign, which only CA certificates may have")]
    CrlSign,
}
