//! Requests without our annotation, where the approver stands in for cert-manager's own.

use super::csr;
use super::policy::Policy;
use super::request::Request;
use super::verdict::{Ignored, Reasons, Verdict};
use crate::quoted::Quoted;

/// Why a request that is not ours is denied all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnannotatedFault {
    /// Whatever else is in it cannot be seen.
    #[error("its CSR cannot be read, so nobody can tell whether it asks for a SPIFFE identity")]
    Unreadable,
    /// It asks for an identity past the rules for identities.
    #[error("it asks for the SPIFFE identity {uri} without the annotation spiffe.csi.cert-manager.io/identity")]
    Spiffe {
        /// The name.
        uri: Quoted,
    },
    /// It wants something else signed by the issuer of identities.
    #[error("its issuer is the one of SPIFFE identities, and it has no annotation spiffe.csi.cert-manager.io/identity")]
    Issuer,
}

impl UnannotatedFault {
    pub(super) fn class(&self) -> &'static str {
        match self {
            UnannotatedFault::Unreadable => "unannotated_unreadable",
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
        Err(csr::Unreadable) => reasons.add(UnannotatedFault::Unreadable),
    }
    if policy.issuer.as_ref().is_some_and(|issuer| issuer.is_same_as(&request.issuer)) {
        reasons.add(UnannotatedFault::Issuer);
    }
    if reasons.is_empty() { Verdict::Approve } else { Verdict::Deny(reasons) }
}
