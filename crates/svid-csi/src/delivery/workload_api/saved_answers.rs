//! The identities of pods, stored on the data tmpfs, so that a restarted driver serves them at once.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use prost::Message;
use svid_csi_core::identity::Rejection;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::workload::X509svidResponse;
use tracing::warn;
use zeroize::Zeroizing;

use crate::host::clock;
use crate::host::fsx::{self, FsError};
use crate::spiffe::x509_message::{self, ReadError};
use crate::telemetry::report;

/// The maximum size of a stored identity, in bytes.
pub fn size_of(context: &X509Context) -> usize {
    x509_message::svids(context).encoded_len()
}

/// Stores it in the form of FetchX509SVID; only root can read it.
pub(super) fn put(path: &Path, context: &X509Context) -> Result<(), FsError> {
    let message = Zeroizing::new(x509_message::svids(context).encode_to_vec());
    fsx::write_atomic(path, &message, 0o600)
}

/// Reads it, if it is usable, whatever the time: what a pod has stays until it is renewed or withdrawn, and the clock may
/// be wrong.
///
/// # Errors
/// [`FsError`] if it cannot be read, which does not mean that none is stored.
pub(super) fn get(path: &Path) -> Result<Option<X509Context>, FsError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => Zeroizing::new(bytes.map_err(FsError::of("read", path))?),
    };
    let kept = match read(&bytes, clock::now()) {
        Err(StoredError::Unusable(ReadError::Rejected(rejection))) => {
            let valid_at = match rejection {
                Rejection::NotYetValid { not_before, .. } => Some(not_before),
                Rejection::Expired { not_after, .. } => Some(not_after),
                _ => None,
            };
            let unusable = StoredError::Unusable(rejection.into());
            valid_at.map_or(Err(unusable), |at| read(&bytes, at))
        }
        kept => kept,
    };
    Ok(kept
        .inspect_err(|error| {
            warn!(path = %path.display(), error = report::chain(error), "the identity stored for a volume can no longer be used");
        })
        .ok())
}

#[derive(Debug, thiserror::Error)]
enum StoredError {
    #[error(transparent)]
    Damaged(#[from] prost::DecodeError),
    #[error(transparent)]
    Unusable(#[from] ReadError),
}

fn read(bytes: &[u8], at: SystemTime) -> Result<X509Context, StoredError> {
    Ok(x509_message::read_own(X509svidResponse::decode(bytes)?, at)?)
}
