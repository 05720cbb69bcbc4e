//! Faults of the stamp of the API server.

/// A fault of a stamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StampFault {
    /// It is missing.
    #[error("spec.extra has no {key}: the driver's token must be bound to its pod, on Kubernetes 1.30 or later")]
    Missing {
        /// Which one.
        key: &'static str,
    },
    /// It does not have exactly one value.
    #[error("spec.extra has {found} values for {key} instead of one")]
    Values {
        /// Which one.
        key: &'static str,
        /// How many.
        found: usize,
    },
}

impl StampFault {
    pub(in crate::approve) fn class(&self) -> &'static str {
        match self {
            StampFault::Missing { .. } => "stamp_missing",
            StampFault::Values { .. } => "stamp_values",
        }
    }
}
