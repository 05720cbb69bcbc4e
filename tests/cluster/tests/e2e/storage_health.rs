//! What the kubelet writes about a driver into its CSINode object (feature gate `CSIVolumeHealth`).

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::objects;
use svid_csi_cluster::session::NODE;

use crate::agent::Agent;
use crate::eventually::{SOON, eventually};
use crate::scene::{Scene, play};
use crate::socket::{deploy, sockets};

/// The kubelet of 1.36 knows the gate, but asks only for the conditions of volumes.
const SINCE: &str = "1.37";

#[tokio::test]
async fn the_kubelet_learns_that_the_agent_is_gone_and_that_it_is_back() {
    play("e2e-health", async |scene: &Scene| {
        if scene.layout.kubernetes < SINCE {
            return Ok(());
        }
        let driver = "health.svid-csi";
        let socket = sockets(scene).join("agent.sock");
        let agent = Agent::start(scene, &socket).await?;
        deploy(scene, driver, &[]).await?;
        wait_reasons(scene, driver, &[]).await?;

        // The killed agent leaves its socket behind.
        drop(agent);
        wait_reasons(scene, driver, &["AgentSocketDead"]).await?;
        std::fs::remove_file(&socket)?;
        wait_reasons(scene, driver, &["AgentDirectoryEmpty"]).await?;
        let _agent = Agent::start(scene, &socket).await?;
        wait_reasons(scene, driver, &[]).await
    })
    .await;
}

async fn wait_reasons(scene: &Scene, driver: &str, reasons: &[&str]) -> Result<()> {
    eventually(&format!("{reasons:?} in the CSINode object"), SOON, async || {
        let conditions = conditions(scene, driver).await?;
        let seen: Vec<_> = conditions.iter().filter_map(|one| one["reason"].as_str()).collect();
        ensure!(seen == reasons, "{conditions:?}");
        ensure!(conditions.iter().all(|one| one["status"] == "StorageUnreachable"), "{conditions:?}");
        Ok(())
    })
    .await
}

async fn conditions(scene: &Scene, driver: &str) -> Result<Vec<Value>> {
    let metadata = json!({"name": NODE});
    let object = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": metadata});
    let node = objects::get(&scene.client, &object).await?;
    let drivers = node["status"]["storageHealth"].as_array().cloned().unwrap_or_default();
    let own = drivers.into_iter().find(|one| one["name"] == driver);
    Ok(own.and_then(|own| own["healthConditions"].as_array().cloned()).unwrap_or_default())
}
