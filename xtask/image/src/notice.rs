//! The licences of the linked crates, which must be distributed with the driver.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::Package;

use crate::linked::Linked;

const FIRST: &str = "This program contains the following software of others, each under its own licence.\n";

/// The authors of each crate, and the text of every licence once.
pub fn text(linked: &Linked) -> Result<String> {
    let mut notice = FIRST.to_owned();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked.of_others() {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see below");
        writeln!(notice, "\n{name} ({licence})")?;
        if let Some(repository) = &package.repository {
            writeln!(notice, "  {repository}")?;
        }
        for file in files(package)? {
            let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let text = String::from_utf8_lossy(&text).lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            texts.entry(text.trim_matches('\n').to_owned()).or_default().push(name.clone());
        }
    }
    let mut texts: Vec<_> = texts.into_iter().collect();
    texts.sort_by(|(_, a), (_, b)| a.cmp(b));
    for (text, mut names) in texts {
        names.dedup();
        write!(notice, "\n{}\n{}\n\n{text}\n", "-".repeat(80), names.join(", "))?;
    }
    Ok(notice)
}

/// The files of a crate that contain its licence, and the notices that its authors require.
fn files(package: &Package) -> Result<Vec<PathBuf>> {
    let folder = package.manifest_path.parent().context("a manifest is in a folder")?;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {folder}"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && ["LICENSE", "LICENCE", "COPYING", "NOTICE"].iter().any(|start| name.starts_with(start)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
