//! The authorities as stored in a folder, which only root can read.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use svid_csi_core::ca::CertificateAuthority;
use svid_csi_core::identity::PrivateKey;
use svid_csi_core::jwt::JwtAuthority;
use svid_csi_core::spiffe_id::TrustDomain;
use tracing::info;
use zeroize::Zeroizing;

use super::error::LocalCaError;
use crate::host::clock;
use crate::host::fsx::{self, FsError};

const UNFINISHED: &str = ".unfinished";
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The root, from ca.crt and ca.key (PEM), which are created if missing.
pub(super) fn authority(trust_domain: &TrustDomain, folder: &Path) -> Result<CertificateAuthority, LocalCaError> {
    fs::create_dir_all(folder).map_err(FsError::of("create the folder", folder))?;
    let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
    clear_unfinished(folder, &certificate, &key)?;
    match (read(&certificate)?, read(&key)?) {
        (Some(certificate_pem), Some(key_pem)) => {
            // An earlier run may have been killed before it did.
            fsx::sync_in(folder, &[&key, &certificate])?;
            CertificateAuthority::load(&certificate_pem, &key_pem, trust_domain, clock::now())
                .map_err(|source| LocalCaError::Unusable { folder: folder.to_owned(), source })
        }
        (None, None) => {
            let authority = CertificateAuthority::create(trust_domain, clock::now(), ROOT_LIFETIME)?;
            keep(&authority, folder, &certificate, &key)?;
            Ok(authority)
        }
        _ => Err(LocalCaError::Half(folder.to_owned())),
    }
}

/// The key that signs JWT-SVIDs, which is created if missing, because folders of earlier versions do not have it.
pub(super) fn jwt_authority(trust_domain: &TrustDomain, path: &Path) -> Result<JwtAuthority, LocalCaError> {
    let folder = path.parent().unwrap_or(path);
    let Some(pem) = read(path)? else {
        let authority = JwtAuthority::create(trust_domain)?;
        fsx::write_atomic(path, authority.key().to_pem().as_bytes(), 0o600)?;
        fsx::sync_in(folder, &[path])?;
        return Ok(authority);
    };
    fsx::sync_in(folder, &[path])?;
    let key = PrivateKey::from_pem(&pem).and_then(|key| JwtAuthority::from_key(trust_domain, key));
    key.map_err(|source| LocalCaError::JwtKey { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, FsError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(|text| Some(text.into())).map_err(FsError::of("read", path)),
    }
}

/// Writes both files, or leaves a mark that they are incomplete, so that a crash in between does not look like a loss.
/// The mark is durably removed before anything is signed, here or when the authority is loaded, because a mark that
/// reappeared after a power failure would discard it.
fn keep(authority: &CertificateAuthority, folder: &Path, certificate: &Path, key: &Path) -> Result<(), FsError> {
    let unfinished = folder.join(UNFINISHED);
    fsx::write_atomic(&unfinished, b"", 0o600)?;
    // Before a file that it explains.
    fsx::sync(folder)?;
    fsx::write_atomic(key, authority.key_pem().as_bytes(), 0o600)?;
    fsx::write_atomic(certificate, authority.certificate_pem().as_bytes(), 0o600)?;
    fsx::sync_in(folder, &[key, certificate])?;
    fsx::remove_file(&unfinished)?;
    fsx::sync(folder)?;
    info!(folder = %folder.display(), "created a new local CA");
    Ok(())
}

fn clear_unfinished(folder: &Path, certificate: &Path, key: &Path) -> Result<(), FsError> {
    if fsx::exists(&folder.join(UNFINISHED))? {
        fsx::remove_file(certificate)?;
        fsx::remove_file(key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn opened(path: &Path) -> Result<JwtAuthority, LocalCaError> {
        jwt_authority(&TrustDomain::parse("example.org").unwrap(), path)
    }

    #[test]
    fn the_key_of_tokens_is_created_once_and_only_root_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwt.key");
        let made = opened(&path).unwrap();
        assert_eq!(opened(&path).unwrap().key_id(), made.key_id());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_damaged_key_of_tokens_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwt.key");
        fsx::write_atomic(&path, b"damaged", 0o600).unwrap();
        let error = opened(&path).unwrap_err();
        assert!(error.to_string().contains("jwt.key cannot be used"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"damaged");
    }
}
