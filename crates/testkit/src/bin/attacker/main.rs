//! A hostile container, for tests: it attacks its volume and others, and reports the outcome of each attack as a JSON line.

mod content;
mod hold;
mod mounts;
mod others;
mod report;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use self::report::Report;

/// Attacks a volume.
#[derive(Parser)]
struct Args {
    /// The volume.
    #[arg(long, default_value = "/spiffe")]
    volume: PathBuf,
    #[command(subcommand)]
    attack: Attack,
}

#[derive(Subcommand)]
enum Attack {
    /// Changes the content of the volume, after making its mount writable if that is possible.
    Content {
        /// Where to lead ..data: to the volume of another pod, for example.
        #[arg(long)]
        lead: Vec<PathBuf>,
    },
    /// Takes all rights from its sockets, which the seal of a folder does not cover.
    Access,
    /// Mounts over the volume, below it and from it, and unmounts it.
    Mounts,
    /// Remounts the file system of the volume, which others share: never on a disk of the node.
    FileSystem,
    /// Leaves the container.
    Others,
    /// Keeps files open and locked, and as many connections to the sockets as it can get, with any content.
    Hold {
        /// A file that exists while they are held.
        #[arg(long)]
        held: PathBuf,
        /// Ends when this file exists.
        #[arg(long)]
        until: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let Args { volume, attack } = Args::parse();
    match attack {
        Attack::Content { lead } => content::attack(&volume, &lead, &Report::of("content")),
        Attack::Access => content::take_access(&volume, &Report::of("access")),
        Attack::Mounts => mounts::attack(&volume, &Report::of("mounts")),
        Attack::FileSystem => mounts::restrict(&volume, &Report::of("file-system")),
        Attack::Others => others::attack(&volume, &Report::of("others")),
        Attack::Hold { held, until } => hold::hold(&volume, &held, &until),
    }
}
