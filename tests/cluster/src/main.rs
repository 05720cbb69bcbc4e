//! `cluster`: a real Kubernetes node for the tests of svid-csi.
#![allow(clippy::print_stderr, reason = "a command line program talks")]

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use svid_csi_cluster::cert_manager::{CertManager, DefaultApprover};
use svid_csi_cluster::layout::Layout;
use svid_csi_cluster::session::Session;
use svid_csi_cluster::tools::Tools;
use svid_csi_cluster::{cluster, images, kubectl};

/// A real Kubernetes node on this machine, for the tests of svid-csi. Needs root.
#[derive(Parser)]
#[command(name = "cluster")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the Go programs into the cache
    Tools,
    /// Build into the cache what only `just foreign` needs, which takes minutes
    Foreign,
    /// Start the cluster, or find that it is up
    Up,
    /// Build the driver as it is shipped, which takes minutes, for a later `images`
    Driver,
    /// Build the images of the driver and the workloads, and load them
    Images,
    /// Run cert-manager on the cluster, or find that it runs
    CertManager {
        /// Let it approve every request by itself
        #[arg(long)]
        default_approver: bool,
    },
    /// Stop the cluster and remove all of it but its logs
    Down,
    /// Say where the cluster is, and whether it is healthy
    Status,
    /// Run kubectl as the administrator
    Kubectl {
        /// What kubectl is asked
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Task {
    fn run(self) -> Result<ExitCode> {
        let layout = Layout::of_this_checkout()?;
        let mut say = |line: &str| eprintln!("cluster: {line}");
        match self {
            Self::Tools => Tools::build(&layout, &mut say).map(drop)?,
            Self::Foreign => Tools::build_foreign(&layout, &mut say)?,
            Self::Up => cluster::up(&layout, &mut say)?,
            Self::Driver => images::compile_driver(&layout).map(drop)?,
            Self::Images => images::load_all(&layout, &Tools::new(&layout), &mut say)?,
            Self::CertManager { default_approver: true } => CertManager::on(&layout)?.start(DefaultApprover::On)?,
            Self::CertManager { default_approver: false } => CertManager::on(&layout)?.start(DefaultApprover::Off)?,
            Self::Down => cluster::down(&layout)?,
            Self::Status => return status(&layout),
            Self::Kubectl { arguments } => return run_kubectl(&layout, &arguments),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn status(layout: &Layout) -> Result<ExitCode> {
    let session = Session::load(layout)?;
    let healthy = cluster::healthy(layout, &Tools::new(layout));
    let text = format!(
        "{}\nexport KUBECONFIG={}\nAPI server  https://127.0.0.1:{}\nkubelet     {}\nlogs        {}\n",
        if healthy { "healthy" } else { "not healthy" },
        layout.kubeconfig().display(),
        session.apiserver,
        layout.kubelet().display(),
        layout.logs().display(),
    );
    // A reader that has seen enough, such as head, is not a failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_kubectl(layout: &Layout, arguments: &[String]) -> Result<ExitCode> {
    let status =
        kubectl::command(layout, &Tools::new(layout)).args(arguments).status().context("cannot run kubectl")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
