//! `svid-csi demo`: a driver's whole life on this machine, without Kubernetes and without root.
//!
//! Everything is real except the kubelet: the driver is a child process that is called over gRPC, its mounts are real
//! mounts in the demo's own mount namespace, and identities are issued, read and used in a TLS handshake.

pub mod agent;
mod driver;
mod handshake;
pub mod kubelet;
mod mounts;
mod namespace;
mod pods;
mod report;
mod stage;
mod story;

use tokio::signal::unix::{SignalKind, signal};

/// The options of the demo.
#[derive(Debug, Clone, Copy, Default)]
pub struct DemoOptions {
    /// One JSON object per step instead of text.
    pub json: bool,
}

/// Runs the demo to its end.
///
/// Must be called while the process has one thread, because the kernel does not let others enter a user namespace.
///
/// # Errors
/// If this machine does not allow the namespaces, a step fails, or the demo is interrupted.
pub fn run(options: DemoOptions) -> anyhow::Result<()> {
    let report = report::Report::new(options.json);
    let workplace = report.step("namespace", namespace::enter())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = story::run(&workplace, &report) => result,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

#[cfg(test)]
mod tests;
