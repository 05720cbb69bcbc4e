//! A message of the Workload API, checked as a source would check it.

use std::time::SystemTime;

use svid_csi_core::identity::Rejection;
use svid_csi_core::x509_context::{X509Context, accept};
use svid_csi_proto::workload::X509svidResponse;

use crate::x509_message;

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum MessageError {
    #[error("there is no SVID in it")]
    Empty,
    #[error(transparent)]
    Unreadable(#[from] x509_message::MessageError),
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// Takes a message as a whole, or refuses it as a whole. Which trust domain it is for, it says itself.
pub(super) fn read(message: X509svidResponse, now: SystemTime) -> Result<X509Context, MessageError> {
    let candidate = x509_message::candidate(message)?;
    let trust_domain = candidate.svids.first().ok_or(MessageError::Empty)?.id.trust_domain().clone();
    Ok(accept(candidate, &trust_domain, now)?)
}
