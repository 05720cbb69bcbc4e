//! Pods that use SPIRE's own socket.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svid_csi_cluster::spire::AccessPolicy;

use super::{Stage, labelled, play_with};
use crate::daemonset::kill;
use crate::pods::{PodSpec, TestPod};
use crate::socket::{deploy, sockets};

const DRIVER: &str = "spire-socket.svid-csi";

/// Waits until the pod has its identity from a new stream, after its first `seen` lines.
async fn wait_identity(stage: &Stage<'_>, pod: &TestPod<'_>, seen: usize) -> Result<Value> {
    let id = stage.identity();
    pod.wait_line("its identity", seen, |line| line["event"] == "svid" && line["spiffe_id"] == id).await
}

#[tokio::test]
#[ignore = "needs SPIRE: just foreign"]
async fn a_pod_outlives_the_agent_its_folder_and_the_driver() {
    play_with("e2e-spire-socket", AccessPolicy::Permissive, async |stage: &Stage<'_>| {
        let (scene, spire) = (stage.scene, &stage.spire);
        let driver = deploy(scene, DRIVER, &[]).await?;
        stage.register_pods("user", &[])?;
        let pod = scene.run(&labelled(PodSpec::on_socket("user", DRIVER), "user")).await?;
        wait_identity(stage, &pod, 0).await?;

        let seen = pod.lines().await?.len();
        spire.restart_agent().await?;
        wait_identity(stage, &pod, seen).await.context("after the agent was restarted")?;

        spire.kill_agent();
        fs::remove_dir_all(sockets(scene))?;
        let seen = pod.lines().await?.len();
        spire.restart_agent().await?;
        wait_identity(stage, &pod, seen).await.context("after the agent's folder was created again")?;

        kill(DRIVER)?;
        driver.wait_running(Some(1)).await?;
        let seen = pod.lines().await?.len();
        spire.restart_agent().await?;
        wait_identity(stage, &pod, seen).await.context("after the driver was killed")?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        Ok(())
    })
    .await;
}
