//! Faults of the identity that a request is for.

use crate::approve::policy::NotAServiceAccount;
use crate::quoted::Quoted;
use crate::spiffe_id::TrustDomain;

/// A rule about the identity that a request breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    /// The annotation and the CSR name different IDs.
    #[error("the annotation names {annotation}, but the CSR names {id}")]
    Annotation {
        /// The annotation.
        annotation: Quoted,
        /// The ID in the CSR.
        id: Quoted,
    },
    /// An identity of another trust domain.
    #[error("{id} is not of the trust domain {expected}")]
    TrustDomain {
        /// The configured trust domain.
        expected: TrustDomain,
        /// The ID in the CSR.
        id: Quoted,
    },
    /// Pods ask for themselves, and the requester is not a pod.
    #[error("the requester has no identity: {problem}")]
    User {
        /// The requester.
        problem: NotAServiceAccount,
    },
    /// The identity of another service account.
    #[error("the request asks for {id}, but may ask only for {expected}")]
    Identity {
        /// The requester's own ID.
        expected: Quoted,
        /// The ID in the CSR.
        id: Quoted,
    },
    /// The driver asks for all pods, and the requester is not the driver.
    #[error("the request was created by {user}, but must be created by the driver, {expected}")]
    Requester {
        /// The driver's service account.
        expected: Quoted,
        /// The requester.
        user: Quoted,
    },
    /// An ID that no pod of the request's namespace has.
    #[error("{id} is not the identity of a service account in the namespace of the request, {namespace}")]
    Namespace {
        /// The namespace of the request.
        namespace: Quoted,
        /// The ID in the CSR.
        id: Quoted,
    },
}

impl IdentityFault {
    pub(in crate::approve) fn class(&self) -> &'static str {
        match self {
            IdentityFault::Annotation { .. } => "annotation",
            IdentityFault::TrustDomain { .. } => "trust_domain",
            IdentityFault::User { .. } => "user",
            IdentityFault::Identity { .. } => "identity",
            IdentityFault::Requester { .. } => "requester",
            IdentityFault::Namespace { .. } => "namespace",
        }
    }
}
