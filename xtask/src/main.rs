//! `cargo xtask`: generates artifacts from the code.
#![allow(clippy::print_stderr, reason = "a command line program talks")]

mod dashboard;
mod deb;
mod docs;
mod image;
mod plugin;
mod release;
mod shell;
#[cfg(test)]
mod systemd;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use svid_csi_image::arch::Arch;

/// Generates artifacts from the code of svid-csi.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the image for these machines, with its bill of materials, into target/image
    Image {
        /// amd64, arm64; default: this machine. Two also result in an archive for both.
        arches: Vec<Arch>,
    },
    /// Build the Debian package into target/deb
    Deb {
        /// amd64 or arm64; default: this machine
        arch: Option<Arch>,
    },
    /// Build the kubectl plugin into target/plugin
    Plugin {
        /// amd64, arm64; default: this machine
        arches: Vec<Arch>,
    },
    /// Write the reference pages below docs/reference
    Docs,
    /// Write the dashboard for Grafana into deploy/monitoring and the chart
    Dashboard,
    /// Write the man pages into target/man
    Man,
    /// Write the completions of bash, zsh and fish into target/completions
    Completions,
    /// Check that manifest, chart and changelog have the same version
    ReleaseCheck,
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().task.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Task {
    fn run(self) -> Result<()> {
        let repo = repository()?;
        match self {
            Self::Image { arches } => image::build(&repo, arches),
            Self::Plugin { arches } => plugin::build(&repo, arches),
            Self::Docs => docs::generate(&repo),
            Self::Dashboard => dashboard::generate(&repo),
            Self::Man => shell::man(&repo),
            Self::Completions => shell::completions(&repo),
            Self::Deb { arch } => deb::build(&repo, arch.unwrap_or(Arch::host())),
            Self::ReleaseCheck => release::check(&repo),
            Self::Version => print(env!("CARGO_PKG_VERSION")),
        }
    }
}

/// The checkout that this is run in, which may differ from the one it was built from.
fn repository() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder is gone")?;
    let is_root = |folder: &&Path| folder.join("Cargo.lock").is_file();
    here.ancestors().find(is_root).map(Path::to_owned).context("run this in a checkout of svid-csi")
}

/// Prints the result to standard output.
fn print(answer: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{answer}").context("cannot write to standard output")
}

/// Reports progress.
fn say(line: &str) {
    eprintln!("xtask: {line}");
}
