//! Faults of the fields of `spec` other than the CSR.

use std::time::Duration;

use crate::cert_request::USAGES;
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
    pub(in crate::approve) fn class(&self) -> &'static str {
        match self {
            SpecFault::Duration { .. } => "duration",
            SpecFault::IsCa => "is_ca",
            SpecFault::Usages { .. } => "usages",
            SpecFault::Issuer { .. } => "issuer",
        }
    }
}

fn or_not_set(duration: &Option<Quoted>) -> String {
    duration.as_ref().map_or_else(|| "not set".to_owned(), Quoted::to_string)
}
