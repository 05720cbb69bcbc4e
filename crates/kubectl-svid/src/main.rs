//! `kubectl svid`: asks the driver of each node by running `svid-csi` in its pod.

mod arguments;
mod cluster;
mod container_flags;
mod doctor;
mod drivers;
mod everywhere;
mod exec;
mod identity;
mod pods;
mod printing;
mod renew;
mod report;
mod status;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::runtime::Builder;

use self::arguments::{Arguments, Command};
use self::cluster::Cluster;

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        printing::failure(&error);
        ExitCode::from(2)
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let code = runtime.block_on(async {
        if let Command::Doctor(options) = &arguments.command
            && let Some(check) = options.explain
        {
            return doctor::explain(check);
        }
        let cluster = Cluster::connect(&arguments.cluster).await?;
        match &arguments.command {
            Command::Status(options) => status::run(&cluster, options).await,
            Command::Doctor(options) => doctor::run(&cluster, options).await,
            Command::Identity(options) => identity::run(&cluster, options).await,
            Command::Renew(options) => renew::run(&cluster, options).await,
            Command::Report(options) => report::run(&cluster, options).await,
        }
    });
    // Does not wait for name lookups, which cannot be cancelled.
    runtime.shutdown_background();
    code
}
