//! Why an identity is requested, and when.

use svid_csi_core::renew;
use svid_csi_core::state::Issued;
use tokio::time::sleep;

use super::cert_manager::Patience;
use crate::backoff::{jitter, remaining};
use crate::host::clock;

/// Why an identity is requested.
#[derive(Debug, Clone, Copy)]
pub enum Reason<'a> {
    /// A pod waits to start.
    First,
    /// A volume that has an identity, unless that was lost.
    Renewal {
        /// Which.
        last: Option<&'a Issued>,
        /// Whether not to wait until it is due.
        at_once: bool,
    },
}

impl Reason<'_> {
    /// Waits until the turn has come.
    pub(super) async fn due(self) {
        if let Reason::Renewal { last: Some(last), at_once: false } = self {
            sleep(renew::delay(&last.validity, clock::now(), jitter())).await;
        }
    }

    /// Whether an identity is requested at once, whether or not the last one is due.
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
