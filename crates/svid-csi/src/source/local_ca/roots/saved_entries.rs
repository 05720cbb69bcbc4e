//! The good entries of other nodes, stored beside the CA: a startup without the API server trusts the same nodes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::host::fsx;
use crate::tasks::blocking;
use crate::telemetry::report;

/// A file with public keys.
#[derive(Debug)]
pub(super) struct Kept(PathBuf);

impl Kept {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The stored entries; none if nothing was ever stored. Blocks.
    ///
    /// # Errors
    /// If they cannot be read, which does not mean that there are none.
    pub(super) fn read(&self) -> io::Result<BTreeMap<String, String>> {
        match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            json => Ok(serde_json::from_slice(&json?)?),
        }
    }

    /// Stores these entries, or returns why that is not possible.
    pub(super) async fn write(&self, texts: BTreeMap<String, String>) -> Result<(), String> {
        let path = self.0.clone();
        let written = blocking(move || {
            let json = serde_json::to_vec(&texts).unwrap_or_default();
            fsx::write_atomic(&path, &json, 0o600)
        });
        match written.await {
            Ok(written) => written.map_err(|error| report::chain(&error)),
            Err(error) => Err(report::chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn saved_entries_exist_at_the_next_startup_and_damaged_ones_are_not_an_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.json");
        let kept = Kept::new(path.clone());
        assert!(kept.read().unwrap().is_empty(), "the first start");
        let texts = BTreeMap::from([("n2".to_owned(), "{}".to_owned())]);
        kept.write(texts.clone()).await.unwrap();
        assert_eq!(Kept::new(path.clone()).read().unwrap(), texts);
        fsx::write_atomic(&path, b"damaged", 0o600).unwrap();
        kept.read().unwrap_err();
        kept.write(texts.clone()).await.unwrap();
        assert_eq!(kept.read().unwrap(), texts);
    }
}
