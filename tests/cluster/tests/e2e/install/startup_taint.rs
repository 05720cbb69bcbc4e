//! A node that joins with the startup taint.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use svid_csi_cluster::images::TAG;
use svid_csi_cluster::session::NODE;

use super::release::{Release, with_release};
use super::upgrade::standalone;
use crate::eventually::{SOON, eventually};
use crate::files::ensure_verified;
use crate::pods::{PodSpec, TestPod};
use crate::scene::{Scene, play_alone};

const KEY: &str = "svid-csi/not-ready";

#[tokio::test]
async fn pods_are_scheduled_to_a_new_node_once_its_driver_is_registered() {
    // Pods of other tests would not be scheduled either.
    play_alone("e2e-taint", async |scene: &Scene| {
        taint(scene, json!([{"key": KEY, "effect": "NoSchedule"}])).await?;
        let outcome = with_release(scene, "taint.svid-csi", release_the_node).await;
        let cleared = taint(scene, Value::Null).await;
        outcome.and(cleared)
    })
    .await;
}

async fn release_the_node(release: &Release<'_>) -> Result<()> {
    let scene = release.users;
    let attributes = json!({"svid-csi/delivery": "files"});
    let pod = scene.create(&PodSpec { attributes, ..PodSpec::on_files("early", release.driver) }).await?;
    eventually("the pod to be kept away", SOON, async || {
        let why = unscheduled(scene, &pod).await?;
        ensure!(why.contains("untolerated taint"), "{why}");
        Ok(())
    })
    .await?;

    let mut values = standalone(release.driver);
    values["startupTaint"] = json!({"enabled": true});
    release.install("standalone", &values).await?;
    release.wait_driver(TAG).await?;
    pod.wait_running().await?;
    ensure_verified(scene, &pod.verify_files().await?)?;
    let node = Api::<Node>::all(scene.client.clone()).get(NODE).await?;
    let left = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

/// Why a pod could not be scheduled.
async fn unscheduled(scene: &Scene, pod: &TestPod<'_>) -> Result<String> {
    let status = scene.api::<Pod>().get(&pod.name).await?.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let scheduled = conditions.into_iter().find(|one| one.type_ == "PodScheduled").context("nobody has looked yet")?;
    ensure!(scheduled.status == "False", "it is on the node");
    Ok(scheduled.message.unwrap_or_default())
}

async fn taint(scene: &Scene, taints: Value) -> Result<()> {
    let nodes: Api<Node> = Api::all(scene.client.clone());
    nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(json!({"spec": {"taints": taints}}))).await?;
    Ok(())
}
