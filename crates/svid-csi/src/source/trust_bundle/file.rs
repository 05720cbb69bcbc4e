//! A trust bundle in a file, which is followed through every way of replacing it: written in place, renamed over,
//! behind the links of a Kubernetes volume, or together with its folder.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use svid_csi_core::identity::{MAX_BUNDLE_TEXT, TrustBundle};
use tokio::time::sleep;
use tracing::{error, warn};
use zeroize::Zeroizing;

use super::updater::{self, BundleUpdater};
use super::{BundleSource, TrustBundleError};
use crate::host::fsx::FsError;
use crate::host::inotify::{self, Inotify};
use crate::tasks::blocking;
use crate::telemetry::report;
use crate::telemetry::reported::Reported;

/// How long to wait before watching is retried.
const PAUSE: Duration = Duration::from_secs(30);

pub(super) struct FollowedFile {
    path: PathBuf,
    updater: BundleUpdater,
    /// Whether the CA's key is known to be in the same folder.
    key_is_there: bool,
    changes: io::Result<Inotify>,
}

/// The content at the beginning.
struct BundleAndKey {
    bundle: Result<TrustBundle, TrustBundleError>,
    key: Option<PathBuf>,
}

impl FollowedFile {
    /// Reads the file, and notices changes from then on. Blocks.
    pub(super) fn new(path: PathBuf, updater: BundleUpdater) -> Self {
        let changes = watch(&path);
        let mut this = Self { path, updater, key_is_there: false, changes };
        let look = look(&this.path);
        this.take(look);
        this
    }

    pub(super) async fn follow(mut self) -> Infallible {
        let mut reported = Reported::default();
        loop {
            let changed = match &self.changes {
                Ok(changes) => changes.changed().await,
                Err(error) => Err(error.kind().into()),
            };
            if let Err(error) = changed {
                if reported.is_new(()) {
                    warn!(%error, path = %self.path.display(), "the trust bundle cannot be watched; it is read every 30 seconds");
                }
                sleep(PAUSE).await;
            }
            let path = self.path.clone();
            // In this order, so that a change between the two is noticed in the next round.
            match blocking(move || (watch(&path), look(&path))).await {
                Ok((changes, look)) => {
                    self.changes = changes;
                    self.take(look);
                }
                Err(failed) => error!(error = report::chain(&failed), "the trust bundle cannot be read"),
            }
        }
    }

    fn take(&mut self, BundleAndKey { bundle, key }: BundleAndKey) {
        self.updater.take(bundle);
        let was_there = std::mem::replace(&mut self.key_is_there, key.is_some());
        if let Some(key) = key.filter(|_| !was_there) {
            warn!(
                path = %key.display(),
                "the CA's private key is on this node, where every root process can read it: mount only ca.crt (or tls.crt) \
                 of the CA's secret, with `items`"
            );
        }
    }
}

/// Watches the file, and the folders in which it may be replaced or appear.
fn watch(file: &Path) -> io::Result<Inotify> {
    inotify::follow(file.parent().unwrap_or(file), &[file])
}

fn look(path: &Path) -> BundleAndKey {
    let source = BundleSource::File(path.to_owned());
    let bundle = read(path)
        .map_err(|error| TrustBundleError::File(FsError::of("read the trust bundle (--source-ca-bundle)", path)(error)))
        .and_then(|pem| updater::read(&source, &pem));
    BundleAndKey { bundle, key: key_beside(path) }
}

/// The size limit is that of a bundle, whatever the file is. It may be a key by mistake.
fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let most = MAX_BUNDLE_TEXT + 1;
    let size = usize::try_from(metadata.len()).map_or(most, |size| (size + 1).min(most));
    let mut pem = Zeroizing::new(Vec::with_capacity(size));
    File::open(path)?.take(most as u64).read_to_end(&mut pem)?;
    Ok(pem)
}

fn key_beside(path: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(path.parent()?).ok()?;
    let mut names = entries.flatten().map(|entry| entry.path());
    names.find(|name| name.extension().is_some_and(|extension| extension == "key"))
}
