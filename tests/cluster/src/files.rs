//! Files that readers never see incomplete.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes beside the file and renames the result.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let beside = path.with_added_extension("new");
    let whole = || -> std::io::Result<()> {
        File::create(&beside)?.write_all(contents.as_ref())?;
        fs::rename(&beside, path)
    };
    whole().with_context(|| format!("cannot write {}", path.display()))
}
