//! Why the broker gives a pod nothing.

use std::sync::Arc;

use svid_csi_core::error::Class;
use svid_csi_core::identity::Rejection;

use super::state::Refused;

/// Why a pod gets no identity from the broker now.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The kubelet does not say which pod it is.
    #[error(
        "the broker is asked for a pod by name and UID, which the kubelet did not send: set podInfoOnMount: true in the CSIDriver object"
    )]
    NoPod,
    /// The agent's policy is against it.
    #[error("the agent denies this pod an identity: {0}")]
    Denied(String),
    /// What the pod had is no longer its own.
    #[error("{0}")]
    Withdrawn(String),
    /// The agent does not take such a question.
    #[error(
        "the agent does not understand the call: {0}; see that it serves the Broker API with references to Kubernetes objects"
    )]
    NotUnderstood(String),
    /// What the agent gave is not to be used.
    #[error("the agent's answer is refused")]
    Refused(#[source] Arc<Refused>),
    /// Nothing with the hint the volume asks for.
    #[error(transparent)]
    NoSuchHint(Rejection),
    /// The agent cannot be asked, or fails.
    #[error("the agent cannot be asked: {0}")]
    Unavailable(String),
}

impl BrokerError {
    /// How the failure is to be treated.
    pub fn class(&self) -> Class {
        match self {
            BrokerError::NoPod | BrokerError::NotUnderstood(_) => Class::Blocked,
            BrokerError::Denied(_) | BrokerError::Withdrawn(_) => Class::Denied,
            BrokerError::Refused(_) => Class::Internal,
            BrokerError::NoSuchHint(_) => Class::Blocked,
            BrokerError::Unavailable(_) => Class::NotYet,
        }
    }
}
