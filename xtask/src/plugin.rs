//! `cargo xtask plugin`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use svid_csi_image::arch::Arch;
use svid_csi_image::compile::{PLUGIN, compile_plugin};

use crate::say;

/// The output folder.
const FOLDER: &str = "target/plugin";

/// Builds the plugin as a static program for each machine.
pub fn build(repo: &Path, mut arches: Vec<Arch>) -> Result<()> {
    if arches.is_empty() {
        arches.push(Arch::host());
    }
    let folder = repo.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for arch in arches {
        let built = compile_plugin(repo, arch)?;
        let name = format!("{PLUGIN}-linux-{arch}");
        fs::copy(&built, folder.join(&name)).with_context(|| format!("cannot copy {}", built.display()))?;
        say(&format!("{FOLDER}/{name}"));
    }
    Ok(())
}
