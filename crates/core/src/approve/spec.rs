//! The fields of `spec` other than the CSR.

use super::fault::{Reasons, SpecFault};
use super::policy::Policy;
use super::request::Request;
use crate::cert_request::{IssuerRef, USAGES};
use crate::go_duration;
use crate::quoted::Quoted;

pub(super) fn check(request: &Request, issuer: &IssuerRef, policy: &Policy, reasons: &mut Reasons) {
    let stated = request.duration.as_deref();
    if stated.and_then(|text| go_duration::parse(text).ok()) != Some(policy.duration) {
        reasons.add(SpecFault::Duration { required: policy.duration, found: stated.map(Quoted::new) });
    }
    if request.is_ca {
        reasons.add(SpecFault::IsCa);
    }
    if !are_required_usages(&request.usages) {
        reasons.add(SpecFault::Usages { found: Quoted::new(request.usages.join(", ")) });
    }
    if !request.issuer.is_same_as(issuer) {
        reasons.add(SpecFault::Issuer { expected: show(issuer), found: show(&request.issuer) });
    }
}

/// Exactly the four, each once, in any order.
fn are_required_usages(usages: &[String]) -> bool {
    usages.len() == USAGES.len() && USAGES.iter().all(|usage| usages.iter().any(|found| found == usage))
}

fn show(issuer: &IssuerRef) -> Quoted {
    Quoted::new(format!("{} {} of {}", issuer.kind(), issuer.name, issuer.group()))
}
