//! The fields of `spec` other than the CSR.

use std::time::Duration;

use super::policy::Policy;
use super::request::Request;
use super::verdict::Reasons;
use crate::cert_request::{IssuerRef, USAGES};
use crate::go_duration;
use crate::quoted::Quoted;

/// A fault in the fields of `spec`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecFault {
    /// Another duration, or none.
    #[error("spec.duration is {}, but must be {}", or_not_set(.found), go_duration::format(*.required))]
    Duration {
        /// The required duration.
        required: Duration,
        /// The requested duration.
        found: Option<Quoted>,
    },
    /// A CA certificate is requested.
    #[error("spec.isCA is true, but a workload is not a CA")]
    IsCa,
    /// Other usages than [`USAGES`].
    #[error("spec.usages are {found}, but must be {}", USAGES.join(", "))]
    Usages {
        /// The requested usages.
        found: Quoted,
    },
    /// Another issuer.
    #[error("spec.issuerRef is {found}, but must be {expected}")]
    Issuer {
        /// The configured one: name, kind and group.
        expected: Quoted,
        /// The requested issuer.
        found: Quoted,
    },
}

impl SpecFault {
    pub(super) fn class(&self) -> &'static str {
        match self {
            SpecFault::Duration { .. } => "duration",
            SpecFault::IsCa => "is_ca",
            SpecFault::Usages { .. } => "usages",
            SpecFault::Issuer { .. } => "issuer",
        }
    }
}

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

fn or_not_set(duration: &Option<Quoted>) -> String {
    duration.as_ref().map_or_else(|| "not set".to_owned(), Quoted::to_string)
}
