//! The few questions `up` and `down` ask the API server, through the cluster's own kubectl.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::layout::Layout;
use crate::tools::Tools;

/// A kubectl for the administrator of this cluster.
#[must_use]
pub fn command(layout: &Layout, tools: &Tools) -> Command {
    let mut command = Command::new(tools.program("kubectl"));
    command.arg("--kubeconfig").arg(layout.kubeconfig()).arg("--cache-dir").arg(layout.work.join("kubectl-cache"));
    command
}

/// Runs kubectl and returns what it printed.
pub fn ask(layout: &Layout, tools: &Tools, arguments: &[&str]) -> Result<String> {
    let output = command(layout, tools)
        .args(["--request-timeout=3s"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run kubectl")?;
    if !output.status.success() {
        bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
