//! How csi-driver-spiffe waits (csi-lib): a publish polls for the end of its request, and each volume has a ticker that
//! reads when its identity is due.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::task::{AbortHandle, spawn};
use tokio::time::{interval, sleep};

const POLL: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_secs(1);
/// The median with which cert-manager answers a bare request, if nothing else runs.
const ISSUER: Duration = Duration::from_millis(18);
const LIFETIME: Duration = Duration::from_secs(3600);

/// The volumes that are renewed.
pub struct Renewal {
    folder: PathBuf,
    tickers: Mutex<HashMap<String, AbortHandle>>,
}

/// The file about a volume.
#[derive(Serialize, Deserialize)]
struct Metadata {
    next_issuance: u64,
}

impl Renewal {
    /// Keeps the files about volumes in a folder of the data root.
    pub fn in_root(data_root: &Path) -> Result<Self> {
        let folder = data_root.join("metadata");
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        Ok(Self { folder, tickers: Mutex::default() })
    }

    /// Requests an identity, unless the volume has one, waits for it, and begins to check when the next one is due.
    pub async fn begin(&self, id: &str) -> Result<()> {
        if self.tickers().contains_key(id) {
            return Ok(());
        }
        let metadata = self.metadata(id);
        let request = spawn(issue(metadata.clone()));
        while !metadata.try_exists()? {
            sleep(POLL).await;
        }
        request.await??;
        let ticker = spawn(async move {
            let mut ticks = interval(TICK);
            loop {
                ticks.tick().await;
                if is_due(&metadata) {
                    let _ = issue(metadata.clone()).await;
                }
            }
        });
        self.tickers().insert(id.to_owned(), ticker.abort_handle());
        Ok(())
    }

    /// Forgets the volume.
    pub fn end(&self, id: &str) {
        if let Some(ticker) = self.tickers().remove(id) {
            ticker.abort();
        }
        let _ = fs::remove_file(self.metadata(id));
    }

    fn metadata(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn tickers(&self) -> MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.tickers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn issue(metadata: PathBuf) -> Result<()> {
    sleep(ISSUER).await;
    let next_issuance = now().saturating_add(LIFETIME.as_secs());
    Ok(fs::write(metadata, serde_json::to_vec(&Metadata { next_issuance })?)?)
}

fn is_due(metadata: &Path) -> bool {
    let read = fs::read(metadata).ok().and_then(|json| serde_json::from_slice::<Metadata>(&json).ok());
    read.is_some_and(|metadata| metadata.next_issuance <= now())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
