//! `cargo xtask deb`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use svid_csi_image::arch::Arch;
use svid_csi_image::linked::Linked;
use svid_csi_image::{compile, notice, write};

use crate::{say, shell};

/// The output folder.
const FOLDER: &str = "target/deb";

/// Builds the Debian package, with the same program as in the image.
pub fn build(repo: &Path, arch: Arch) -> Result<()> {
    shell::man(repo)?;
    shell::completions(repo)?;
    write(&repo.join(FOLDER).join("THIRD-PARTY"), notice::text(&Linked::read(repo, arch)?)?.as_bytes())?;
    compile::compile(repo, arch)?;
    let output = Command::new("cargo")
        .args(["deb", "--no-build", "--no-strip", "--locked", "--package", "svid-csi", "--profile", "dist"])
        .args(["--target", arch.triple(), "--output", FOLDER])
        .current_dir(repo)
        .env("CARGO_TARGET_DIR", compile::TARGET_DIR)
        .env("SOURCE_DATE_EPOCH", commit_time(repo).unwrap_or_else(|| "0".to_owned()))
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo deb: {}", String::from_utf8_lossy(&output.stderr).trim());
    say(String::from_utf8_lossy(&output.stdout).trim());
    Ok(())
}

/// The time of the current commit, so that the package of a commit is always the same.
fn commit_time(repo: &Path) -> Option<String> {
    let output = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(repo).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
