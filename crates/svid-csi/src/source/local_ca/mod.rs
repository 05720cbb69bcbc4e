//! Source `local-ca`: the certificate authority embedded in the driver, for clusters without another one.

mod error;
mod folder;
mod roots;
mod trusted;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use kube::Client;
use svid_csi_core::ca::{Authorities, CertificateAuthority};
use svid_csi_core::identity::{Candidate, KeyType, PrivateKey, TrustBundle};
use svid_csi_core::jwt::{Audiences, JwtAuthority, JwtBundles, JwtSvid};
use svid_csi_core::request::SvidRequest;
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use tokio::sync::watch;
use tracing::error;

pub use self::error::LocalCaError;
pub use self::roots::Roots;
use self::trusted::Trusted;
use crate::host::clock;
use crate::tasks::{OneThread, Tasks};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;

/// The default lifetime of JWT-SVIDs, as in SPIRE: long enough for a call, short enough that a stolen one is of little
/// use.
pub const JWT_LIFETIME: Duration = Duration::from_secs(300);

/// The embedded certificate authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCaConfig {
    /// The trust domain of every identity.
    pub trust_domain: TrustDomain,
    /// Lifetime of issued certificates.
    pub lifetime: Duration,
    /// The type of the pods' keys.
    pub key_type: KeyType,
    /// Lifetime of JWT-SVIDs.
    pub jwt_lifetime: Duration,
    /// The folder of the root on disk; without it, the root exists only in memory and on the data tmpfs.
    pub dir: Option<PathBuf>,
    /// The ConfigMap in which the drivers of all nodes publish their local CAs, by the names of the nodes.
    pub roots: Option<ConfigMapPlace>,
}

/// The embedded authority.
#[derive(Debug, Clone)]
pub struct LocalCa {
    authority: Arc<CertificateAuthority>,
    jwt_authority: Arc<JwtAuthority>,
    jwt_signing: OneThread,
    jwt_lifetime: Duration,
    lifetime: Duration,
    key_type: KeyType,
    trusted: Arc<Trusted>,
    /// The file with the roots of other nodes for the next startup.
    kept_roots: PathBuf,
    roots: Option<Roots>,
}

impl LocalCa {
    /// Loads the root from `folder` (ca.crt and ca.key, PEM), or creates one and stores it there with mode 0600. A root that
    /// is not valid now issues nothing until it is, but pods keep what they have.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub fn open(config: &LocalCaConfig, folder: &Path) -> Result<Self, LocalCaError> {
        let authority = folder::authority(&config.trust_domain, folder)?;
        if let Err(error) = authority.check_validity(clock::now()) {
            error!(folder = %folder.display(), error = report::chain(&error), "the local CA cannot issue identities now");
        }
        let jwt_authority = folder::jwt_authority(&config.trust_domain, &folder.join("jwt.key"))?;
        let trusted = Trusted::new(Authorities::of(&authority, &jwt_authority), &config.trust_domain)?;
        Ok(LocalCa {
            authority: Arc::new(authority),
            jwt_authority: Arc::new(jwt_authority),
            jwt_signing: OneThread::default(),
            jwt_lifetime: config.jwt_lifetime,
            lifetime: config.lifetime,
            key_type: config.key_type,
            trusted: Arc::new(trusted),
            kept_roots: folder.join("roots.json"),
            roots: None,
        })
    }

    /// Issues an identity with a new key at the time `now`. Blocks.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub fn issue(&self, id: SpiffeId, now: SystemTime) -> Result<Candidate, LocalCaError> {
        let bundle = self.bundle().borrow().clone().ok_or(LocalCaError::UnknownRoots)?;
        let mut serial = [0; 16];
        rand::fill(&mut serial).map_err(|_| LocalCaError::Random)?;
        let key = PrivateKey::generate(self.key_type)?;
        let request = SvidRequest::for_key(&key, id, self.lifetime);
        let leaf = self.authority.sign(&request, now, serial)?;
        let chain = std::iter::once(leaf).chain(self.authority.intermediates().iter().cloned()).collect();
        Ok(Candidate { chain, key, bundle: Some(bundle.certificates().to_vec()) })
    }

    /// Issues a JWT-SVID for those audiences.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub async fn issue_jwt(&self, id: &SpiffeId, audiences: &Audiences) -> Result<JwtSvid, LocalCaError> {
        let (authority, lifetime) = (self.jwt_authority.clone(), self.jwt_lifetime);
        let (id, audiences) = (id.clone(), audiences.clone());
        Ok(self.jwt_signing.run(move || authority.sign(&id, &audiences, clock::now(), lifetime)).await??)
    }

    /// Starts to trust the roots of the other nodes, and to publish its own; those of the previous run are trusted at
    /// once. Blocks; needs a tokio runtime around it.
    pub fn share_roots(&mut self, client: Client, place: ConfigMapPlace, node: &str, metrics: &Metrics, tasks: &Tasks) {
        let (trusted, kept) = (self.trusted.clone(), self.kept_roots.clone());
        let roots = Roots::start(client, place, node, trusted, kept, metrics.watch_restarts("ConfigMap"), tasks);
        self.roots = Some(roots);
    }

    /// Whether it can sign: it is valid now.
    pub fn can_sign(&self) -> bool {
        self.authority.check_validity(clock::now()).is_ok()
    }

    /// The follower of the other nodes' roots, if they are followed.
    pub fn roots(&self) -> Option<&Roots> {
        self.roots.as_ref()
    }

    /// The CA certificates of its trust domain, and their changes; none as long as those of other nodes are not known.
    pub fn bundle(&self) -> watch::Receiver<Option<Arc<TrustBundle>>> {
        self.trusted.bundle()
    }

    /// The keys to validate JWT-SVIDs of its trust domain with, and their changes.
    ///
    /// # Errors
    /// [`LocalCaError::UnknownRoots`].
    pub fn jwt_bundles(&self) -> Result<watch::Receiver<Arc<JwtBundles>>, LocalCaError> {
        let bundles = self.trusted.jwt_bundles();
        if bundles.borrow().is_empty() { Err(LocalCaError::UnknownRoots) } else { Ok(bundles) }
    }
}
