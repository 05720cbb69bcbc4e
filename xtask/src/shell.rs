//! `cargo xtask man` and `cargo xtask completions`: files for users at a terminal, which packages include.

use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::Shell;
use svid_csi_image::write;

use crate::say;

/// Man pages of the program and of its subcommands, into target/man.
pub fn man(repo: &Path) -> Result<()> {
    let folder = repo.join("target/man");
    std::fs::create_dir_all(&folder).context("cannot create target/man")?;
    clap_mangen::generate_to(svid_csi::cli::command().disable_help_subcommand(true), &folder)?;
    say("target/man");
    Ok(())
}

/// Completions of bash, zsh and fish, into target/completions, with the file names that the shells expect.
pub fn completions(repo: &Path) -> Result<()> {
    for (shell, name) in [(Shell::Bash, "svid-csi"), (Shell::Zsh, "_svid-csi"), (Shell::Fish, "svid-csi.fish")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut svid_csi::cli::command(), "svid-csi", &mut script);
        write(&repo.join("target/completions").join(name), &script)?;
    }
    say("target/completions");
    Ok(())
}
