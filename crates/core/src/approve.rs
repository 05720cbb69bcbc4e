//! Whether a `CertificateRequest` is approved.
//!
//! [`judge`] checks a request against every rule that needs only the request. Rules that also need the cluster come
//! out as [`Verdict::Depends`], with the pods to read; [`Reads::decide`] then decides. There is no other way from a request
//! to an approval than through both, so that no caller can forget a rule.
//!
//! The rules are those of cert-manager/csi-driver-spiffe's approver, and more. Rules about a CSR are
//! rules about bytes: a CSR is approved only in the one encoding in which every parser finds the same content. Bytes that
//! the approver's parser skips, the issuer's may honour.

mod condition;
mod csr;
mod fault;
mod identity;
mod pod;
mod policy;
mod request;
mod spec;
mod stamp;
mod unannotated;
mod verdict;

pub use self::condition::condition;
pub use self::csr::MAX_PEM_BYTES;
pub use self::fault::{
    CsrFault, DerFault, IdentityFault, PemFault, PodFault, PodProblem, Reason, Reasons, SpecFault, StampFault,
    UnannotatedFault, cluster_rules,
};
pub use self::pod::{Lookup, MAX_FACT_AGE, PodFacts, PodKey, Reads};
pub use self::policy::{Mode, NotAServiceAccount, Policy, ServiceAccount};
pub use self::request::{CONDITION_REASON, Decision, Request};
pub use self::verdict::{Ignored, Verdict};

/// Judges a request by all that can be seen from the request itself.
///
/// A denial names all that is wrong, not only the first thing.
pub fn judge(request: &Request, policy: &Policy) -> Verdict {
    if let Some(decision) = &request.decision {
        return Verdict::Ignore(Ignored::Decided { approved: decision.approved });
    }
    let Some(annotation) = &request.identity else {
        return unannotated::judge(request, policy);
    };
    let Some(issuer) = &policy.issuer else {
        return Verdict::Ignore(Ignored::NoIssuer);
    };
    let mut reasons = Reasons::default();
    let id = csr::check(&request.csr, policy, &mut reasons);
    spec::check(request, issuer, policy, &mut reasons);
    identity::check(request, id.as_ref(), annotation, policy, &mut reasons);
    let reads = pod::reads(request, id, policy, &mut reasons);
    match reads {
        _ if !reasons.is_empty() => Verdict::Deny(reasons),
        Some(reads) => Verdict::Depends(Box::new(reads)),
        None => Verdict::Approve,
    }
}
