//! `cargo xtask image`.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use svid_csi_image::arch::Arch;
use svid_csi_image::{compile, docker, oci, product, sbom, sha256, write};

use crate::say;

/// The output folder.
pub const FOLDER: &str = "target/image";
/// The repository of their names, before the name of the configuration.
const REPOSITORY: &str = "svid-csi";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds and writes the archives of each machine, and for several machines also one archive of all.
pub fn build(repo: &Path, mut arches: Vec<Arch>) -> Result<()> {
    if arches.is_empty() {
        arches.push(Arch::host());
    }
    arches.sort();
    arches.dedup();
    let images = product::images(REPOSITORY, VERSION, revision(repo).as_deref());
    let mut all = oci::Layout::default();
    for arch in &arches {
        let programs = compile::compile(repo, *arch)?;
        let layer = product::layer(repo, *arch, &programs)?;
        let mut own = oci::Layout::default();
        for layout in [&mut own, &mut all] {
            layout.add(*arch, &layer, &images)?;
        }
        let name = format!("svid-csi-{VERSION}-{arch}");
        put(repo, &format!("{name}.oci.tar"), &own.archive()?)?;
        put(repo, &format!("{name}.docker.tar"), &docker::archive(*arch, &layer, &images)?)?;
        put(repo, &format!("{name}.cdx.json"), &sbom::document(repo, *arch)?)?;
    }
    if arches.len() > 1 {
        put(repo, &format!("svid-csi-{VERSION}.oci.tar"), &all.archive()?)?;
    }
    Ok(())
}

fn put(repo: &Path, name: &str, contents: &[u8]) -> Result<()> {
    let path = repo.join(FOLDER).join(name);
    write(&path, contents)?;
    let size = contents.len() as f64 / f64::from(1 << 20);
    say(&format!("{FOLDER}/{name}  {size:.1} MiB  sha256:{}", sha256(contents)));
    Ok(())
}

/// The current commit, if this is a checkout without changes.
fn revision(repo: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(repo).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let (commit, changed) = (git(&["rev-parse", "HEAD"])?, git(&["status", "--porcelain"])?);
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}
