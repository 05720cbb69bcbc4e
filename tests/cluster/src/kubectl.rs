//! The few calls of `up` and `down` to the API server, through the cluster's own kubectl.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::layout::Layout;
use crate::tools::Tools;

/// A kubectl for the administrator of this cluster.
#[must_use]
pub fn command(layout: &Layout, tools: &Tools) -> Command {
    let mut command = Command::new(tools.program("kubectl"));
    command.arg("--kubeconfig").arg(layout.kubeconfig()).arg("--cache-dir").arg(layout.work.join("kubectl-cache"));
    command
}

/// Runs kubectl and returns its output.
pub fn ask(layout: &Layout, tools: &Tools, arguments: &[&str]) -> Result<String> {
    feed(layout, tools, arguments, "")
}

/// Creates or updates objects.
pub fn apply(layout: &Layout, tools: &Tools, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    feed(layout, tools, &arguments, &list.to_string()).map(drop)
}

/// Runs kubectl with some input and returns its output.
pub fn feed(layout: &Layout, tools: &Tools, arguments: &[&str], input: &str) -> Result<String> {
    let output = run(layout, tools, arguments, input).context("cannot run kubectl")?;
    if !output.status.success() {
        bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The input fits into a pipe or is read before any output.
fn run(layout: &Layout, tools: &Tools, arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = command(layout, tools)
        // The API server's schema is megabytes, which takes seconds beside other work.
        .arg("--request-timeout=30s")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let written = child.stdin.take().context("no input")?.write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    // If kubectl fails early, it reports the reason itself, and the write error does not matter.
    if output.status.success() {
        written?;
    }
    Ok(output)
}
