//! The faults of a request, by the rules that they break.

mod csr;
mod identity;
mod pod;
mod spec;
mod stamp;
mod unannotated;

use std::fmt;

pub use self::csr::{CsrFault, DerFault, PemFault};
pub use self::identity::IdentityFault;
pub use self::pod::{PodFault, PodProblem, cluster_rules};
pub use self::spec::SpecFault;
pub use self::stamp::StampFault;
pub use self::unannotated::UnannotatedFault;

/// The maximum number of reasons that are kept; a CSR can be made to break the same rule a thousand times.
const MAX_REASONS: usize = 16;

/// A fault of a request: a sentence, and a class that metrics count by.
///
/// Sentences contain no semicolon, because semicolons separate them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub enum Reason {
    /// The CSR.
    Csr(#[from] CsrFault),
    /// The fields of `spec` other than the CSR.
    Spec(#[from] SpecFault),
    /// The identity.
    Identity(#[from] IdentityFault),
    /// The stamp of the API server.
    Stamp(#[from] StampFault),
    /// The pods behind it.
    Pod(#[from] PodFault),
    /// A request without our annotation that could still lead to one of our identities.
    Unannotated(#[from] UnannotatedFault),
}

impl Reason {
    /// The class of the reason, for metrics: few, short and stable.
    pub fn class(&self) -> &'static str {
        match self {
            Reason::Csr(fault) => fault.class(),
            Reason::Spec(fault) => fault.class(),
            Reason::Identity(fault) => fault.class(),
            Reason::Stamp(fault) => fault.class(),
            Reason::Pod(fault) => fault.class(),
            Reason::Unannotated(fault) => fault.class(),
        }
    }
}

/// All faults of a request, without duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasons {
    reasons: Vec<Reason>,
    more: usize,
}

impl Reasons {
    pub(super) fn add(&mut self, reason: impl Into<Reason>) {
        let reason = reason.into();
        if self.reasons.contains(&reason) {
            return;
        }
        if self.reasons.len() < MAX_REASONS { self.reasons.push(reason) } else { self.more += 1 }
    }

    /// Records the fault of a failed check, or returns the value of one that succeeded.
    pub(super) fn take<T, F: Into<Reason>>(&mut self, result: Result<T, F>) -> Option<T> {
        result.map_err(|fault| self.add(fault)).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The reasons, in the order of the rules.
    pub fn iter(&self) -> impl Iterator<Item = &Reason> {
        self.reasons.iter()
    }

    /// As many whole sentences as fit into that many bytes, and how many are left out. At least one is always included.
    pub fn message(&self, limit: usize) -> String {
        let mut text = String::new();
        let mut left = self.reasons.len();
        for reason in &self.reasons {
            let sentence = reason.to_string();
            if !text.is_empty() && text.len() + sentence.len() + "; and 99 more".len() > limit {
                break;
            }
            let separator = if text.is_empty() { "" } else { "; " };
            text.extend([separator, &sentence]);
            left -= 1;
        }
        match left + self.more {
            0 => text,
            more => format!("{text}; and {more} more"),
        }
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(usize::MAX))
    }
}
