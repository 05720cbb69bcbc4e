//! Why an identity is requested.

use svid_csi_core::state::Issued;

use super::cert_manager::Patience;
use crate::backoff::remaining;

/// Why an identity is requested.
#[derive(Debug, Clone, Copy)]
pub enum Reason<'a> {
    /// A pod waits to start.
    First,
    /// A volume that has an identity, unless that was lost.
    Renewal {
        /// Which.
        last: Option<&'a Issued>,
        /// Whether the source that pushes is not to wait until it has another one.
        at_once: bool,
    },
}

impl Reason<'_> {
    /// Whether an identity is requested at once, rather than when there is another one.
    pub(super) fn is_at_once(self) -> bool {
        matches!(self, Reason::First | Reason::Renewal { at_once: true, .. })
    }

    pub(super) fn patience(self) -> Patience {
        match self {
            Reason::First => Patience::First,
            Reason::Renewal { last, .. } => Patience::Renewal { remaining: remaining(last.map(|last| &last.validity)) },
        }
    }
}
