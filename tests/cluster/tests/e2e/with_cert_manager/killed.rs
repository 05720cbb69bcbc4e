//! A driver that is killed while pods use its volumes.

use anyhow::{Result, ensure};

use super::outages::{BRIEF, run_watcher, set};
use super::stage::{Stage, play_with};
use crate::pods::TestPod;
use crate::restart::{ensure_always_verified, wait_renewal};

#[tokio::test]
async fn certificates_are_renewed_after_a_kill_once_the_kubelet_brings_tokens() {
    play_with("e2e-driver-killed", BRIEF, async |stage: &Stage<'_>| {
        let bundle = set(stage).await?;
        let _approver = stage.approver(&[]).await?;
        let driver = stage.driver(&[&bundle]).await?;
        let pods = [run_watcher(stage, "one").await?, run_watcher(stage, "two").await?];
        driver.kill_and_restart().await?;
        for pod in &pods {
            ensure_renewed(stage, pod).await?;
        }
        // In the middle of a renewal, most likely.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(30), driver.renew(&["--all"])).await;
        driver.kill_and_restart().await?;
        for pod in &pods {
            ensure_renewed(stage, pod).await?;
            let left = stage.requests_of(pod).await?.len();
            ensure!(left <= 2, "{left} requests are left of {}", pod.name);
        }
        Ok(())
    })
    .await;
}

async fn ensure_renewed(stage: &Stage<'_>, pod: &TestPod<'_>) -> Result<()> {
    let seen = pod.lines().await?.len();
    wait_renewal(stage.scene, pod, seen).await?;
    ensure_always_verified(stage.scene, pod).await
}
