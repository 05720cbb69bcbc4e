//! Requests without our annotation, if the approver replaces cert-manager's own.

use super::csr::{self, CsrFault};
use super::policy::Policy;
use super::request::Request;
use super::verdict::{Ignored, Reasons, Verdict};
use crate::quoted::Quoted;

/// Why a request that is not ours is denied nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnannotatedFault {
    /// Its CSR cannot be read, so it may hold anything.
    #[error("cannot determine whether the request asks for a SPIFFE identity: {0}")]
    Unreadable(CsrFault),
    /// It asks for an identity, but evades the rules for identities.
    #[error(
        "the request asks for the SPIFFE identity {uri} without the annotation spiffe.csi.cert-manager.io/identity"
    )]
    Spiffe {
        /// The name.
        uri: Quoted,
    },
    /// It asks an issuer of identities for something else, which may be a CA certificate.
    #[error(
        "the request's issuer is or was the issuer of SPIFFE identities, and the request has no annotation spiffe.csi.cert-manager.io/identity"
    )]
    Issuer,
}

impl UnannotatedFault {
    pub(super) fn class(&self) -> &'static str {
        match self {
            UnannotatedFault::Unreadable(_) => "unannotated_unreadable",
            UnannotatedFault::Spiffe { .. } => "unannotated_spiffe",
            UnannotatedFault::Issuer => "unannotated_issuer",
        }
    }
}

pub(super) fn judge(request: &Request, policy: &Policy) -> Verdict {
    if !policy.auto_approve_non_spiffe {
        return Verdict::Ignore(Ignored::NotOurs);
    }
    let mut reasons = Reasons::default();
    match csr::find_spiffe_name(&request.csr) {
        Ok(None) => {}
        Ok(Some(uri)) => reasons.add(UnannotatedFault::Spiffe { uri }),
        Err(fault) => reasons.add(UnannotatedFault::Unreadable(fault)),
    }
    if policy.issuer.iter().chain(&policy.former_issuers).any(|issuer| issuer.is_same_as(&request.issuer)) {
        reasons.add(UnannotatedFault::Issuer);
    }
    match &policy.issuer {
        _ if !reasons.is_empty() => Verdict::Deny(reasons),
        // It may be the issuer of identities itself.
        None => Verdict::Ignore(Ignored::NoIssuer),
        Some(_) => Verdict::Approve,
    }
}
