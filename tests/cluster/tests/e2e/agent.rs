//! A scripted agent that runs on the host and serves the Workload API.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svid_csi_cluster::peers;

use crate::eventually::{SOON, eventually};
use crate::pods::json_lines;
use crate::scene::Scene;

/// The identity of every caller of the agent.
pub const IDENTITY: &str = "spiffe://example.org/workload";

/// The agent; it ends when dropped.
pub struct Agent {
    process: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts an agent that listens on `socket`, whose folder is created if missing.
    pub async fn start(scene: &Scene, socket: &Path) -> Result<Self> {
        fs::create_dir_all(socket.parent().context("a socket lies in a folder")?)?;
        let log = scene.folder.join("agent.log");
        let program = peers::program(&scene.layout, "scripted-agent");
        let process = Command::new(&program)
            .arg("--socket")
            .arg(socket)
            .args(["--trust-domain", "example.org", "--spiffe-id", IDENTITY, "--svid-ttl", "3600"])
            .stdin(Stdio::null())
            .stdout(File::options().create(true).append(true).open(&log)?)
            .stderr(File::options().create(true).append(true).open(scene.folder.join("agent.err"))?)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut agent = Self { process, log };
        eventually("the agent to listen", SOON, async || {
            ensure!(agent.process.try_wait()?.is_none(), "the agent has stopped: see agent.err");
            ensure!(socket.exists(), "{} is missing", socket.display());
            Ok(())
        })
        .await?;
        Ok(agent)
    }

    /// The agent's records of its callers.
    pub fn callers(&self) -> Result<Vec<Value>> {
        let lines = json_lines(&fs::read_to_string(&self.log)?);
        Ok(lines.into_iter().filter(|line| line["event"] == "fetch").collect())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
