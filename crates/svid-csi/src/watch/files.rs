//! An identity in files, followed through every way of replacing them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use svid_csi_core::files::FileName;
use svid_csi_core::identity::{Candidate, Expected, KeyError, MAX_BUNDLE_TEXT, PrivateKey, Rejection, accept};
use svid_csi_core::quoted::Quoted;
use svid_csi_core::spiffe_id::{SpiffeId, SpiffeIdError};
use svid_csi_core::x509_context::X509Context;
use tokio::time::timeout;
use tracing::warn;
use zeroize::Zeroizing;

use super::wait_reason::WaitReason;
use super::{CurrentIdentity, WatchedNames};
use crate::host::clock;
use crate::host::inotify::{self, Inotify};
use crate::spiffe::svid::{Leaf, SvidError};
use crate::tasks::blocking;
use crate::telemetry::report;

/// How long to wait before the next attempt to watch a folder that cannot be watched, or to read files that are refused:
/// they may become valid without a change, when a wrong clock is set.
const PAUSE: Duration = Duration::from_secs(30);

/// The link to the folder of the files, as the kubelet and the driver use it to replace all files at once.
const CURRENT: &str = "..data";

/// A followed folder.
pub(super) struct FilesSource {
    folder: PathBuf,
    names: WatchedNames,
    changes: Option<io::Result<Inotify>>,
    wait_reason: WaitReason,
}

/// Why the files are not an identity.
#[derive(Debug, thiserror::Error)]
enum FilesError {
    #[error("{name} cannot be read")]
    Read {
        name: FileName,
        #[source]
        source: io::Error,
    },
    #[error("{0} is not PEM text with certificates")]
    NotPem(FileName),
    #[error("{0} is not PEM text")]
    NotText(FileName),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Leaf(#[from] SvidError),
    #[error("the certificate's name {name} is not a SPIFFE ID")]
    Id {
        name: Quoted,
        #[source]
        problem: SpiffeIdError,
    },
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl FilesSource {
    pub(super) fn new(folder: PathBuf, names: WatchedNames) -> Self {
        Self { folder, names, changes: None, wait_reason: WaitReason::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    pub(super) fn waits_for(&self) -> String {
        self.wait_reason.reason().unwrap_or_else(|| format!("{} is being read", self.folder.display()))
    }

    /// The files when they have changed and are an identity; the first time, immediately.
    pub(super) async fn next(&mut self) -> CurrentIdentity {
        loop {
            self.changed().await;
            // In this order, so that a change between the two is noticed in the next round.
            self.changes = Some(inotify::follow(&self.folder, &self.paths()));
            let (folder, names) = (self.folder.clone(), self.names.clone());
            let now = clock::now();
            match blocking(move || look(&folder, &names, now)).await {
                Ok(Ok(context)) => {
                    self.wait_reason.done();
                    return CurrentIdentity { context, tokens: Vec::new() };
                }
                Ok(Err(error)) => {
                    self.wait_reason.waiting(format!("{}: {}", self.folder.display(), report::chain(&error)))
                }
                Err(failed) => self.wait_reason.waiting(report::chain(&failed)),
            }
        }
    }

    async fn changed(&mut self) {
        let changed = match &self.changes {
            None => return,
            Some(Ok(changes)) if self.wait_reason.reason().is_some() => {
                timeout(PAUSE, changes.changed()).await.unwrap_or(Ok(()))
            }
            Some(Ok(changes)) => changes.changed().await,
            Some(Err(error)) => Err(error.kind().into()),
        };
        if let Err(error) = changed {
            warn!(%error, path = %self.folder.display(), "cannot watch the folder; reading it again in 30 seconds");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let WatchedNames { cert, key, bundle } = &self.names;
        [cert, key, bundle].map(|name| self.folder.join(name.as_str())).into()
    }
}

/// Reads all files through one resolution of `..data`, so that they belong together.
fn look(folder: &Path, names: &WatchedNames, now: SystemTime) -> Result<X509Context, FilesError> {
    let folder = fs::canonicalize(folder.join(CURRENT)).unwrap_or_else(|_| folder.to_owned());
    let cert = Zeroizing::new(read(&folder, &names.cert)?);
    let is_bundle = names.cert == names.key;
    let (before, chain) = cert.split_at(if is_bundle { start_of_chain(&cert) } else { 0 });
    let chain = certificates(&names.cert, chain)?;
    let key = Zeroizing::new(if is_bundle { before.to_vec() } else { read(&folder, &names.key)? });
    let text = str::from_utf8(&key).map_err(|_| FilesError::NotText(names.key.clone()))?;
    let (key, bundle) = (PrivateKey::from_pem(text)?, bundle(&folder, &names.bundle)?);
    let name = Leaf::read(&chain[0])?.spiffe_id;
    let id = SpiffeId::parse(&name).map_err(|problem| FilesError::Id { name: Quoted::new(&name), problem })?;
    Ok(accept(Candidate { chain, key, bundle }, &Expected { id, now })?.into())
}

/// Where the chain begins in a credential bundle, which has the key in front of it.
fn start_of_chain(bundle: &[u8]) -> usize {
    const FIRST: &[u8] = b"-----BEGIN CERTIFICATE-----";
    bundle.windows(FIRST.len()).position(|part| part == FIRST).unwrap_or(bundle.len())
}

/// `None` if the file does not exist: the bundle is optional.
fn bundle(folder: &Path, name: &FileName) -> Result<Option<Vec<CertificateDer<'static>>>, FilesError> {
    match read(folder, name) {
        Ok(pem) => certificates(name, &pem).map(Some),
        Err(FilesError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The maximum size is that of a bundle.
fn read(folder: &Path, name: &FileName) -> Result<Vec<u8>, FilesError> {
    let read = || {
        // Allocated once: growing would leave copies of a key behind.
        let file = File::open(folder.join(name.as_str()))?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(MAX_BUNDLE_TEXT).min(MAX_BUNDLE_TEXT);
        let mut contents = Vec::with_capacity(size + 1);
        file.take(MAX_BUNDLE_TEXT as u64).read_to_end(&mut contents)?;
        Ok(contents)
    };
    read().map_err(|source| FilesError::Read { name: name.clone(), source })
}

fn certificates(name: &FileName, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.ok().filter(|certificates| !certificates.is_empty());
    found.ok_or_else(|| FilesError::NotPem(name.clone()))
}

#[cfg(test)]
mod tests {
    use svid_csi_core::identity::to_pem;
    use svid_csi_core::x509_context::split;
    use svid_csi_testkit::TestCa;
    use tokio::time::sleep;

    use super::*;
    use crate::host::fsx;
    use crate::host::simulated::{self, Machine, Random};

    #[tokio::test(start_paused = true)]
    async fn files_refused_for_a_wrong_clock_are_an_update_once_the_clock_is_right() {
        let (folder, right, ca) = (tempfile::tempdir().unwrap(), clock::now(), TestCa::new("root"));
        let issued = ca.issue("spiffe://example.org/web", Duration::from_secs(3600), None);
        let [chain, key] = [
            to_pem(&split(&issued.chain).unwrap()),
            PrivateKey::from_pkcs8_der(&issued.key).unwrap().to_pem().to_string(),
        ];
        for (name, text) in [("tls.crt", chain), ("tls.key", key), ("ca.crt", ca.bundle_pem())] {
            fsx::write_atomic(&folder.path().join(name), text.as_bytes(), 0o600).unwrap();
        }
        let [cert, key, bundle] = ["tls.crt", "tls.key", "ca.crt"].map(|name| FileName::parse(name).unwrap());
        let mut source = FilesSource::new(folder.path().to_owned(), WatchedNames { cert, key, bundle });
        let wall = right - Duration::from_secs(300);
        let _simulated = simulated::begin(Machine { wall, booted: Duration::ZERO, random: Random::new(1) });
        tokio::select! {
            _ = source.next() => panic!("it is not valid yet"),
            () = sleep(PAUSE * 3) => {}
        }
        assert!(source.waits_for().contains("valid only from"), "{}", source.waits_for());
        simulated::change(|machine| machine.wall = right);
        assert!(timeout(PAUSE * 2, source.next()).await.is_ok(), "no file has changed");
    }
}
