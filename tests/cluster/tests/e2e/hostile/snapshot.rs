//! The content of a folder of the host, to find the changes by a pod.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use svid_csi_image::sha256;

/// The properties of each file by its path: type and mode, owner, inode, target of a link, hash of the content.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, String>);

impl Snapshot {
    /// The current content.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut found = BTreeMap::new();
        look(folder, &mut found)?;
        Ok(Self(found))
    }

    /// The changes: each path with its former and current properties.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut paths: Vec<_> = self.0.keys().chain(now.0.keys()).collect();
        paths.sort();
        paths.dedup();
        let of = |all: &Self, path: &Path| all.0.get(path).map_or("nothing".to_owned(), Clone::clone);
        let changed = paths.into_iter().map(|path| (path, of(self, path), of(now, path)));
        changed
            .filter(|(_, then, now)| then != now)
            .map(|(path, then, now)| format!("{}: {then}, now {now}", path.display()))
            .collect()
    }
}

fn look(path: &Path, found: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let known = fs::symlink_metadata(path)?;
    let kind = known.file_type();
    let content = if kind.is_symlink() {
        fs::read_link(path)?.display().to_string()
    } else if kind.is_file() {
        sha256(&fs::read(path)?)
    } else {
        String::new()
    };
    let what = format!("mode {:o} owner {}:{} inode {} {content}", known.mode(), known.uid(), known.gid(), known.ino());
    found.insert(path.to_owned(), what);
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            look(&entry?.path(), found)?;
        }
    }
    Ok(())
}
