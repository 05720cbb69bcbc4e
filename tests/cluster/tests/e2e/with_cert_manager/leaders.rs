//! Two approvers, of which one decides.

use std::time::Duration;

use anyhow::{Result, ensure};
use svid_csi_cluster::predecessor;
use svid_csi_cluster::program::metric;
use svid_csi_cluster::requests::{self, wait_condition};
use svid_csi_cluster::spiffe::Approver;

use super::stage::{Stage, play_with};
use crate::eventually::{SOON, eventually};
use crate::pods::{PodSpec, TestPod};

async fn leads(approver: &Approver) -> Result<bool> {
    Ok(metric(&approver.metrics().await?, "svid_csi_approver_leader", &[]) == Some(1.0))
}

async fn wait_leading(approver: &Approver) -> Result<()> {
    eventually("the approver to lead", SOON, async || {
        ensure!(leads(approver).await?, "it does not");
        Ok(())
    })
    .await
}

/// Creates a request for the pod and waits until it is signed.
async fn ensure_signed(stage: &Stage<'_>, pod: &TestPod<'_>) -> Result<()> {
    let client = stage.client_of(pod, "default").await?;
    let name = requests::create(&client, &stage.terms.request(&stage.pod_ref(pod, "default"))?).await?;
    wait_condition(&stage.requests(), &name, "Ready").await.map(drop)
}

#[tokio::test]
async fn when_the_leader_is_killed_the_other_approver_takes_over() {
    play_with("e2e-leaders", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        stage.announce(None).await?;
        stage.put(&predecessor::requester(&stage.scene.name, "default")).await?;
        let pod = stage.scene.run(&PodSpec::idle("asker")).await?;
        let first = stage.approver(&[]).await?;
        wait_leading(&first).await?;
        let second = stage.approver(&[]).await?;
        ensure_signed(stage, &pod).await?;
        ensure!(!leads(&second).await?, "two approvers lead");

        first.kill()?;
        ensure_signed(stage, &pod).await?;
        ensure!(leads(&second).await?, "it decided without leading");

        // On SIGTERM a leader releases the Lease, so that the next one does not have to wait for its end.
        let third = stage.approver(&[]).await?;
        second.end().await?;
        wait_leading(&third).await?;
        ensure_signed(stage, &pod).await
    })
    .await;
}
