//! Why the broker has no identity for a pod.

use std::error::Error as _;
use std::sync::Arc;

use svid_csi_core::error::Class;
use svid_csi_core::finding;
use svid_csi_core::findings::Check;
use svid_csi_core::identity::Rejection;
use svid_csi_core::jwt::JwtRejection;
use svid_csi_core::spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
use tonic::{Code, Status};

use crate::spiffe::x509_message::MessageError;

/// Why a pod cannot get an identity from the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The kubelet does not identify the pod.
    #[error(
        "the broker needs the pod's name and UID, which the kubelet did not send: set podInfoOnMount: true in the CSIDriver object"
    )]
    NoPod,
    /// The agent's policy forbids it.
    #[error("the agent denies this pod an identity: {0}")]
    Denied(String),
    /// The pod's identity was withdrawn.
    #[error("{0}")]
    Withdrawn(String),
    /// The agent does not support the call.
    #[error(
        "the agent does not understand the call: {0}; check that it serves the Broker API with references to Kubernetes objects"
    )]
    NotUnderstood(String),
    /// The agent's response must not be used.
    #[error("the agent's answer is refused")]
    Refused(#[source] Arc<ResponseError>),
    /// No SVID has the hint that the volume requests.
    #[error(transparent)]
    NoSuchHint(Rejection),
    /// A token that is not a JWT-SVID of the pod.
    #[error("the agent's JWT-SVID is refused: {0}")]
    Token(#[from] JwtRejection),
    /// A token without a valid SPIFFE ID.
    #[error("the agent's JWT-SVID is refused: its spiffe_id is not a SPIFFE ID: {problem}")]
    TokenId {
        /// The problem.
        problem: SpiffeIdError,
    },
    /// A token of a trust domain other than the agent's.
    #[error("the agent's JWT-SVID is refused: {id} is not of its trust domain {trust_domain}")]
    ForeignToken {
        /// The ID.
        id: SpiffeId,
        /// The agent's trust domain.
        trust_domain: TrustDomain,
    },
    /// The agent cannot be reached, or fails.
    #[error("the agent is unavailable: {0}")]
    Unavailable(String),
}

impl BrokerError {
    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self {
            BrokerError::NoPod | BrokerError::NotUnderstood(_) => Class::Blocked,
            BrokerError::Denied(_) | BrokerError::Withdrawn(_) => Class::Denied,
            BrokerError::Refused(_)
            | BrokerError::Token(_)
            | BrokerError::TokenId { .. }
            | BrokerError::ForeignToken { .. } => Class::Internal,
            BrokerError::NoSuchHint(_) => Class::Blocked,
            BrokerError::Unavailable(_) => Class::NotYet,
        }
    }

    /// The finding that explains it.
    pub fn finding(&self) -> Option<&'static Check> {
        Some(match self {
            BrokerError::NoPod => finding!("csidriver-lacks-fields"),
            BrokerError::Denied(_) => finding!("request-failed"),
            BrokerError::Withdrawn(_) => finding!("identity-missing"),
            BrokerError::NotUnderstood(_) | BrokerError::Unavailable(_) => finding!("agent-not-answering"),
            BrokerError::Refused(_)
            | BrokerError::Token(_)
            | BrokerError::TokenId { .. }
            | BrokerError::ForeignToken { .. } => finding!("identity-refused"),
            BrokerError::NoSuchHint(_) => return None,
        })
    }
}

/// The rule that a response broke.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// It cannot be read.
    #[error("the agent's answer cannot be read")]
    Message(#[from] MessageError),
    /// The identity must not be used.
    #[error("the identity the agent gave is refused")]
    Rejected(#[from] Rejection),
    /// The worker of the check panicked.
    #[error("the check of the identity failed")]
    Worker(#[from] tokio::task::JoinError),
}

/// The code that the agent has sent; one created by the transport says nothing about the pod.
pub(super) fn code(status: &Status) -> Code {
    let made_up = status.source().is_some() || status.message().starts_with("grpc-status header missing");
    if made_up { Code::Unavailable } else { status.code() }
}
