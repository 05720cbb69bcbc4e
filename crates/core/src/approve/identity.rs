//! Whether the requester may have the identity that a request is for.

use super::fault::{IdentityFault, Reasons};
use super::policy::{NotAServiceAccount, Policy, ServiceAccount};
use super::request::Request;
use crate::quoted::Quoted;
use crate::spiffe_id::SpiffeId;

/// Checks the ID of the CSR, if it has one, against the annotation and the requester.
pub(super) fn check(
    request: &Request,
    id: Option<&SpiffeId>,
    annotation: &str,
    policy: &Policy,
    reasons: &mut Reasons,
) {
    if let Some(id) = id.filter(|id| id.as_str() != annotation) {
        reasons.add(IdentityFault::Annotation { annotation: Quoted::new(annotation), id: quote(id) });
    }
    let foreign = id.filter(|id| *id.trust_domain() != policy.trust_domain);
    if let Some(id) = foreign {
        reasons.add(IdentityFault::TrustDomain { expected: policy.trust_domain.clone(), id: quote(id) });
    }
    let id = if foreign.is_some() { None } else { id };
    match policy.mode.driver() {
        None => check_pod(request, id, policy, reasons),
        Some(driver) => check_driver(request, id, driver, policy, reasons),
    }
}

/// The pod asks with its own token: the ID is that of its service account.
fn check_pod(request: &Request, id: Option<&SpiffeId>, policy: &Policy, reasons: &mut Reasons) {
    let Some(account) = reasons.take(service_account(&request.username)) else { return };
    let own = SpiffeId::for_service_account(&policy.trust_domain, &account.namespace, &account.name);
    let Some(own) = reasons.take(own.map_err(|_| no_account(&request.username))) else { return };
    if let Some(id) = id.filter(|id| **id != own) {
        reasons.add(IdentityFault::Identity { expected: quote(&own), id: quote(id) });
    }
}

/// The driver asks: the ID is that of some service account in the namespace of the request. The pod shows which one.
fn check_driver(
    request: &Request,
    id: Option<&SpiffeId>,
    driver: &ServiceAccount,
    policy: &Policy,
    reasons: &mut Reasons,
) {
    let expected = driver.to_string();
    if request.username != expected {
        reasons.add(IdentityFault::Requester { expected: Quoted::new(expected), user: Quoted::new(&request.username) });
    }
    let is_of_namespace = |id: &SpiffeId| {
        let name = id.path().rsplit('/').next().unwrap_or_default();
        SpiffeId::for_service_account(&policy.trust_domain, &request.namespace, name).is_ok_and(|own| own == *id)
    };
    if let Some(id) = id.filter(|id| !is_of_namespace(id)) {
        reasons.add(IdentityFault::Namespace { namespace: Quoted::new(&request.namespace), id: quote(id) });
    }
}

fn service_account(user: &str) -> Result<ServiceAccount, IdentityFault> {
    user.parse().map_err(|problem| IdentityFault::User { problem })
}

fn no_account(user: &str) -> IdentityFault {
    IdentityFault::User { problem: NotAServiceAccount { user: Quoted::new(user) } }
}

fn quote(id: &SpiffeId) -> Quoted {
    Quoted::new(id.as_str())
}
