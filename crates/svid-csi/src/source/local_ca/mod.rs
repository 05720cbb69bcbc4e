//! Source `local-ca`: the certificate authority embedded in the driver, for clusters without another one.

mod error;
mod folder;
mod keys;
mod roots;
mod trusted;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use kube::Client;
use prometheus_client::metrics::counter::Counter;
use svid_csi_core::identity::{Candidate, KeyType, PrivateKey, TrustBundle};
use svid_csi_core::jwt::{Audiences, JwtBundles, JwtSvid};
use svid_csi_core::request::SvidRequest;
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use tokio::sync::watch;
use tracing::{error, info};

pub use self::error::LocalCaError;
use self::keys::Keys;
pub use self::roots::Roots;
use self::trusted::Published;
use crate::backoff::pause;
use crate::host::clock;
use crate::tasks::{OneThread, Tasks, blocking};
use crate::telemetry::report;

/// The longest pause before the next attempt to load the authority.
const LONGEST: Duration = Duration::from_secs(60);

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

/// Where the drivers of all nodes publish their roots.
#[derive(Clone)]
pub struct Sharing {
    /// The API server.
    pub client: Client,
    /// The ConfigMap.
    pub place: ConfigMapPlace,
    /// The name of this node.
    pub node: String,
    /// Counts the times that the ConfigMap is watched again.
    pub restarts: Counter,
}

/// The embedded authority.
#[derive(Debug, Clone)]
pub struct LocalCa {
    trust_domain: TrustDomain,
    /// Once they are loaded.
    keys: Arc<OnceLock<Keys>>,
    published: Published,
    /// Why they are not loaded.
    trouble: Arc<Mutex<Option<String>>>,
    jwt_signing: OneThread,
    jwt_lifetime: Duration,
    lifetime: Duration,
    key_type: KeyType,
}

impl LocalCa {
    /// Loads the root from `folder` (ca.crt and ca.key, PEM), or creates one and stores it there with mode 0600. A root that
    /// is not valid now issues nothing until it is, but pods keep what they have. Blocks.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub fn open(config: &LocalCaConfig, folder: &Path) -> Result<Self, LocalCaError> {
        let this = Self::without_keys(config);
        this.set(Keys::load(&config.trust_domain, folder, &this.published)?);
        Ok(this)
    }

    /// The same for a driver: if the files cannot be read or written for now, that is retried, and meanwhile nothing is issued
    /// and pods keep what they have. If roots are shared, it starts to trust those of the other nodes, and to publish its own;
    /// those of the previous run are trusted at once. Blocks; needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`LocalCaError`] for files that will not get better by themselves.
    pub fn start(
        config: &LocalCaConfig,
        folder: PathBuf,
        sharing: Option<Sharing>,
        tasks: &Tasks,
    ) -> Result<Self, LocalCaError> {
        let this = Self::without_keys(config);
        match this.load(&folder, sharing.as_ref(), tasks) {
            Err(error @ LocalCaError::File(_)) => {
                this.failed(&folder, &error, 1);
                tasks.detached(this.clone().load_later(folder, sharing, tasks.clone()));
            }
            loaded => loaded?,
        }
        Ok(this)
    }

    fn without_keys(config: &LocalCaConfig) -> Self {
        LocalCa {
            trust_domain: config.trust_domain.clone(),
            keys: Arc::default(),
            published: Published::default(),
            trouble: Arc::default(),
            jwt_signing: OneThread::default(),
            jwt_lifetime: config.jwt_lifetime,
            lifetime: config.lifetime,
            key_type: config.key_type,
        }
    }

    fn load(&self, folder: &Path, sharing: Option<&Sharing>, tasks: &Tasks) -> Result<(), LocalCaError> {
        let keys = match sharing {
            None => Keys::load(&self.trust_domain, folder, &self.published)?,
            Some(sharing) => Keys::load_sharing(&self.trust_domain, folder, &self.published, sharing, tasks)?,
        };
        self.set(keys);
        Ok(())
    }

    fn set(&self, keys: Keys) {
        // Only one attempt at a time can succeed.
        let _ = self.keys.set(keys);
    }

    /// Tries again until it is loaded.
    async fn load_later(self, folder: PathBuf, sharing: Option<Sharing>, tasks: Tasks) {
        let mut failures = 1;
        loop {
            tokio::time::sleep(pause(failures, LONGEST)).await;
            let (this, sharing, tasks) = (self.clone(), sharing.clone(), tasks.clone());
            let within = folder.clone();
            let loaded = blocking(move || this.load(&within, sharing.as_ref(), &tasks)).await;
            match loaded.map_err(LocalCaError::from).flatten() {
                Ok(()) => {
                    *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return info!(folder = %folder.display(), "the local CA can be used again");
                }
                Err(error) => {
                    failures += 1;
                    self.failed(&folder, &error, failures);
                }
            }
        }
    }

    fn failed(&self, folder: &Path, error: &LocalCaError, failures: u32) {
        let error = report::chain(error);
        if failures.is_power_of_two() {
            error!(folder = %folder.display(), error, failures, "the local CA cannot be used for now; pods keep what they have; retrying");
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn keys(&self) -> Result<&Keys, LocalCaError> {
        self.keys.get().ok_or(LocalCaError::NotLoaded)
    }

    /// Issues an identity with a new key at the time `now`. Blocks.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub fn issue(&self, id: SpiffeId, now: SystemTime) -> Result<Candidate, LocalCaError> {
        let authority = &self.keys()?.authority;
        let bundle = self.bundle().borrow().clone().ok_or(LocalCaError::UnknownRoots)?;
        let mut serial = [0; 16];
        rand::fill(&mut serial).map_err(|_| LocalCaError::Random)?;
        let key = PrivateKey::generate(self.key_type)?;
        let request = SvidRequest::for_key(&key, id, self.lifetime);
        let leaf = authority.sign(&request, now, serial)?;
        let chain = std::iter::once(leaf).chain(authority.intermediates().iter().cloned()).collect();
        Ok(Candidate { chain, key, bundle: Some(bundle.certificates().to_vec()) })
    }

    /// Issues a JWT-SVID for those audiences.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub async fn issue_jwt(&self, id: &SpiffeId, audiences: &Audiences) -> Result<JwtSvid, LocalCaError> {
        let (authority, lifetime) = (self.keys()?.jwt_authority.clone(), self.jwt_lifetime);
        let (id, audiences) = (id.clone(), audiences.clone());
        Ok(self.jwt_signing.run(move || authority.sign(&id, &audiences, clock::now(), lifetime)).await??)
    }

    /// Whether it can sign: it is loaded, and valid now.
    pub fn can_sign(&self) -> bool {
        self.keys.get().is_some_and(|keys| keys.authority.check_validity(clock::now()).is_ok())
    }

    /// Why its files cannot be used for now, if so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The follower of the other nodes' roots, if they are followed.
    pub fn roots(&self) -> Option<&Roots> {
        self.keys.get()?.roots.as_ref()
    }

    /// The CA certificates of its trust domain, and their changes; none as long as those of other nodes are not known.
    pub fn bundle(&self) -> watch::Receiver<Option<Arc<TrustBundle>>> {
        self.published.bundle.subscribe()
    }

    /// The keys to validate JWT-SVIDs of its trust domain with, and their changes.
    ///
    /// # Errors
    /// [`LocalCaError::NotLoaded`] and [`LocalCaError::UnknownRoots`].
    pub fn jwt_bundles(&self) -> Result<watch::Receiver<Arc<JwtBundles>>, LocalCaError> {
        self.keys()?;
        let bundles = self.published.jwt.subscribe();
        if bundles.borrow().is_empty() { Err(LocalCaError::UnknownRoots) } else { Ok(bundles) }
    }
}
