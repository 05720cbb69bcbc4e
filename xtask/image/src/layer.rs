//! The content of an image.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::archive::Archive;

/// A file of a layer.
pub enum Entry {
    /// A folder with these permissions.
    Folder(u32),
    /// An executable, copied from the host.
    Program(PathBuf),
    /// A symbolic link to this target.
    Link(String),
    /// A small file.
    Text(String),
}

/// A layer: paths without a leading slash, in order.
pub type Layer = Vec<(String, Entry)>;

/// The layer as a tar archive.
pub fn pack(layer: &Layer) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for (name, entry) in layer {
        match entry {
            Entry::Folder(mode) => archive.folder(name, *mode)?,
            Entry::Text(text) => archive.file(name, 0o644, text.as_bytes())?,
            Entry::Link(target) => archive.link(name, target)?,
            Entry::Program(source) => {
                let program = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
                archive.file(name, 0o755, &program)?;
            }
        }
    }
    archive.bytes()
}
