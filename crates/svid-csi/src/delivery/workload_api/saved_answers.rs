//! The identities of pods, stored on the data tmpfs, so that a restarted driver serves them at once.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use prost::Message;
use svid_csi_core::identity::{MAX_SVIDS, Rejection};
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
    let kept = read_at_any_time(&bytes, clock::now());
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

/// When it was accepted, all its SVIDs were valid. Each step towards that time makes at least one more of them valid.
fn read_at_any_time(bytes: &[u8], now: SystemTime) -> Result<X509Context, StoredError> {
    let mut at = now;
    for _ in 0..MAX_SVIDS {
        at = match read(bytes, at) {
            Err(StoredError::Unusable(ReadError::Rejected(Rejection::NotYetValid { not_before, .. }))) => not_before,
            Err(StoredError::Unusable(ReadError::Rejected(Rejection::Expired { not_after, .. }))) => not_after,
            other => return other,
        };
    }
    read(bytes, at)
}

fn read(bytes: &[u8], at: SystemTime) -> Result<X509Context, StoredError> {
    Ok(x509_message::read_own(X509svidResponse::decode(bytes)?, at)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use svid_csi_core::ca::CertificateAuthority;
    use svid_csi_core::identity::Candidate;
    use svid_csi_core::request::SvidRequest;
    use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
    use svid_csi_core::x509_context::{ContextCandidate, SvidCandidate, accept};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// They were issued at different times, for different times.
    #[test]
    fn several_svids_are_read_whatever_the_time() {
        let (domain, begin) = (TrustDomain::parse("example.org").unwrap(), clock::now());
        let ca = CertificateAuthority::create(&domain, begin, 600 * MINUTE).unwrap();
        let svid = |(number, (issued, lifetime)): (u32, (u32, u32))| {
            let id = SpiffeId::parse(&format!("spiffe://example.org/{number}")).unwrap();
            let (key, request) = SvidRequest::with_new_key(id.clone(), lifetime * MINUTE).unwrap();
            let leaf = ca.sign(&request, begin + issued * MINUTE, [1; 16]).unwrap();
            let candidate = Candidate { chain: vec![leaf], key, bundle: Some(vec![ca.certificate_der().clone()]) };
            SvidCandidate { id, candidate, hint: String::new() }
        };
        let svids = (0..).zip([(60, 140), (100, 150), (120, 90), (80, 110)]).map(svid).collect();
        let candidate = ContextCandidate { svids, ..ContextCandidate::default() };
        let context = accept(candidate, &domain, begin + 125 * MINUTE).unwrap();
        let bytes = x509_message::svids(&context).encode_to_vec();
        for now in [0, 59, 90, 110, 125, 195, 205, 215, 500, 10_000] {
            let read = read_at_any_time(&bytes, begin + now * MINUTE);
            assert_eq!(read.map(|read| read.svids().len()).map_err(|error| error.to_string()), Ok(4), "{now}");
        }
    }
}
