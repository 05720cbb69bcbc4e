//! Requests without our annotation, if the approver replaces cert-manager's own.

use super::csr;
use super::fault::{Reasons, UnannotatedFault};
use super::policy::Policy;
use super::request::Request;
use super::verdict::{Ignored, Verdict};

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
