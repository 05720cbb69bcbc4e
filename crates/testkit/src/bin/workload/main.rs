//! A workload for tests: it uses its identity as a program in a pod would, and reports its observations as JSON lines.

mod verify;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use svid_csi_testkit::JsonLines;

/// Uses a SPIFFE identity and reports its observations.
#[derive(Parser)]
enum Args {
    /// Prints a line for each X.509-SVID that the Workload API sends.
    Watch {
        /// The socket of the Workload API.
        #[arg(long)]
        socket: PathBuf,
        /// End with the first SVID, or with exit code 1 at the first error.
        #[arg(long)]
        once: bool,
    },
    /// Checks tls.crt, tls.key and ca.crt and prints their contents; exit code 1 if they are not an identity.
    Verify {
        /// The folder of the files.
        #[arg(long)]
        files: PathBuf,
        /// Continue, with a line after each change of the files.
        #[arg(long)]
        watch: bool,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let out = JsonLines::default();
    let good = match Args::parse() {
        Args::Watch { socket, once: true } => watch::once(&socket, &out).await,
        Args::Watch { socket, once: false } => watch::forever(&socket, &out).await,
        Args::Verify { files, watch: false } => verify::once(&files, &out),
        Args::Verify { files, watch: true } => verify::forever(&files, &out).await,
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
