//! Tar archives that do not depend on the time and place of the build.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use aws_lc_rs::digest;
use tar::{Builder, EntryType, Header};

/// An archive in memory, with owner root and without times.
pub(crate) struct Archive(Builder<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(crate) fn folder(&mut self, name: &str, mode: u32) -> Result<()> {
        self.append(name, EntryType::Directory, mode, &[])
    }

    pub(crate) fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.append(name, EntryType::Regular, mode, data)
    }

    pub(crate) fn link(&mut self, name: &str, target: &str) -> Result<()> {
        let mut header = header(EntryType::Symlink, 0o777);
        header.set_size(0);
        self.0.append_link(&mut header, name, target).with_context(|| format!("cannot pack {name}"))
    }

    pub(crate) fn bytes(self) -> Result<Vec<u8>> {
        self.0.into_inner().context("cannot pack an archive")
    }

    fn append(&mut self, name: &str, kind: EntryType, mode: u32, data: &[u8]) -> Result<()> {
        let mut header = header(kind, mode);
        header.set_size(data.len() as u64);
        self.0.append_data(&mut header, name, data).with_context(|| format!("cannot pack {name}"))
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// A SHA-256 digest in hexadecimal.
#[must_use]
pub fn sha256(data: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, data);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes beside the file and renames the result, so that an archive is either complete or missing.
pub fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let beside = path.with_added_extension("new");
    let whole = || -> std::io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        File::create(&beside)?.write_all(contents)?;
        fs::rename(&beside, path)
    };
    whole().with_context(|| format!("cannot write {}", path.display()))
}
