//! Source `local-ca`: the certificate authority embedded in the driver, for demos, single nodes and tests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use svid_csi_core::ca::{CaError, CertificateAuthority, LoadError};
use svid_csi_core::identity::{Candidate, KeyError, KeyType, PrivateKey, bundle_digest};
use svid_csi_core::jwt::{Audiences, JwtAuthority, JwtBundles, JwtSignError, JwtSvid};
use svid_csi_core::request::SvidRequest;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use tracing::info;
use zeroize::Zeroizing;

use crate::clock;
use crate::fsx::{self, FsError};
use crate::node::config::LocalCaConfig;

const UNFINISHED: &str = ".unfinished";
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The lifetime of JWT-SVIDs, unless told otherwise, as SPIRE's: long enough for a call, short enough that a stolen one is
/// of little use.
pub const JWT_LIFETIME: Duration = Duration::from_secs(300);

/// The embedded authority.
#[derive(Debug, Clone)]
pub struct LocalCa {
    authority: Arc<CertificateAuthority>,
    jwt_authority: Arc<JwtAuthority>,
    jwt_lifetime: Duration,
    lifetime: Duration,
    key_type: KeyType,
}

/// Why the embedded authority is of no use.
#[derive(Debug, thiserror::Error)]
pub enum LocalCaError {
    /// Its certificate and key on disk do not make an authority.
    #[error("the local CA in {} cannot be used; mend it, or remove ca.crt and ca.key to have a new one made", .folder.display())]
    Unusable {
        /// Where it is kept.
        folder: PathBuf,
        /// What is wrong with it.
        #[source]
        source: LoadError,
    },
    /// Only one of certificate and key is there.
    #[error("{} holds only one of ca.crt and ca.key; restore the other, or remove both to have a new CA made", .0.display())]
    Half(PathBuf),
    /// Signing failed.
    #[error("the certificate cannot be signed")]
    Sign(#[from] CaError),
    /// The key of JWT-SVIDs on disk cannot be used.
    #[error("{} cannot be used; mend it, or remove it to have a new key made (tokens signed with the old one then fail)", .path.display())]
    JwtKey {
        /// Where it is kept.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// A JWT-SVID could not be signed.
    #[error("the JWT-SVID cannot be signed")]
    SignJwt(#[from] JwtSignError),
    /// No key could be made.
    #[error("no key can be generated")]
    Key(#[from] KeyError),
    /// A file system call failed.
    #[error(transparent)]
    File(#[from] FsError),
    /// The system has no randomness to give.
    #[error("the system's random number generator failed")]
    Random,
    /// The signing task did not end as it should.
    #[error("the signing task failed")]
    Task(#[from] tokio::task::JoinError),
}

impl LocalCa {
    /// Loads the root from `folder` (ca.crt and ca.key, PEM), or makes one and keeps it there with mode 0600.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub fn open(config: &LocalCaConfig, folder: &Path) -> Result<Self, LocalCaError> {
        fs::create_dir_all(folder).map_err(FsError::of("create the folder", folder))?;
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        clear_unfinished(folder, &certificate, &key)?;
        let authority = match (read(&certificate)?, read(&key)?) {
            (Some(certificate), Some(key)) => {
                CertificateAuthority::load(&certificate, &key, &config.trust_domain, clock::now())
                    .map_err(|source| LocalCaError::Unusable { folder: folder.to_owned(), source })?
            }
            (None, None) => {
                let authority = CertificateAuthority::create(&config.trust_domain, clock::now(), ROOT_LIFETIME)?;
                keep(&authority, folder, &certificate, &key)?;
                authority
            }
            _ => return Err(LocalCaError::Half(folder.to_owned())),
        };
        let jwt_authority = jwt_authority(&config.trust_domain, &folder.join("jwt.key"))?;
        Ok(LocalCa {
            authority: Arc::new(authority),
            jwt_authority: Arc::new(jwt_authority),
            jwt_lifetime: config.jwt_lifetime,
            lifetime: config.lifetime,
            key_type: config.key_type,
        })
    }

    /// Issues an identity with a new key.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub async fn issue(&self, id: &SpiffeId) -> Result<Candidate, LocalCaError> {
        let (this, id) = (self.clone(), id.clone());
        tokio::task::spawn_blocking(move || this.sign(id)).await?
    }

    fn sign(&self, id: SpiffeId) -> Result<Candidate, LocalCaError> {
        let mut serial = [0; 16];
        rand::fill(&mut serial).map_err(|_| LocalCaError::Random)?;
        let key = PrivateKey::generate(self.key_type)?;
        let request = SvidRequest::for_key(&key, id, self.lifetime);
        let leaf = self.authority.sign(&request, clock::now(), serial)?;
        Ok(Candidate { chain: vec![leaf], key, bundle: Some(vec![self.authority.certificate_der().clone()]) })
    }

    /// Issues a JWT-SVID for those audiences.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub async fn issue_jwt(&self, id: &SpiffeId, audiences: &Audiences) -> Result<JwtSvid, LocalCaError> {
        let (authority, lifetime) = (self.jwt_authority.clone(), self.jwt_lifetime);
        let (id, audiences) = (id.clone(), audiences.clone());
        Ok(tokio::task::spawn_blocking(move || authority.sign(&id, &audiences, clock::now(), lifetime)).await??)
    }

    /// What JWT-SVIDs of its trust domain are validated with.
    pub fn jwt_bundles(&self) -> JwtBundles {
        [(self.jwt_authority.trust_domain().clone(), self.jwt_authority.bundle().clone())].into()
    }

    /// SHA-256 of the bundle it hands out, lower-case hexadecimal.
    pub fn bundle_digest(&self) -> String {
        bundle_digest(std::slice::from_ref(self.authority.certificate_der()))
    }
}

/// The key that signs JWT-SVIDs, made where there is none: folders of earlier versions have none.
fn jwt_authority(trust_domain: &TrustDomain, path: &Path) -> Result<JwtAuthority, LocalCaError> {
    let Some(pem) = read(path)? else {
        let authority = JwtAuthority::create(trust_domain)?;
        fsx::write_atomic(path, authority.key().to_pem().as_bytes(), 0o600)?;
        for written in [Some(path), path.parent()].into_iter().flatten() {
            fsx::sync(written)?;
        }
        return Ok(authority);
    };
    let key = PrivateKey::from_pem(&pem).and_then(|key| JwtAuthority::from_key(trust_domain, key));
    key.map_err(|source| LocalCaError::JwtKey { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, FsError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(|text| Some(text.into())).map_err(FsError::of("read", path)),
    }
}

/// Writes both files, or leaves a mark that they are not both there, so that a crash in between does not look like a loss.
fn keep(authority: &CertificateAuthority, folder: &Path, certificate: &Path, key: &Path) -> Result<(), FsError> {
    let unfinished = folder.join(UNFINISHED);
    fsx::write_atomic(&unfinished, b"", 0o600)?;
    fsx::write_atomic(key, authority.key_pem().as_bytes(), 0o600)?;
    fsx::write_atomic(certificate, authority.certificate_pem().as_bytes(), 0o600)?;
    for written in [key, certificate, folder] {
        fsx::sync(written)?;
    }
    fsx::remove_file(&unfinished)?;
    info!(folder = %folder.display(), "made a new local CA");
    Ok(())
}

fn clear_unfinished(folder: &Path, certificate: &Path, key: &Path) -> Result<(), FsError> {
    if folder.join(UNFINISHED).exists() {
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
    fn the_key_of_tokens_is_made_once_and_only_root_can_read_it() {
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
