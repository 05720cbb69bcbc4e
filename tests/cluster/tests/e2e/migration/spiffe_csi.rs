//! A DaemonSet of spiffe-csi gets our image and no other change.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use svid_csi_cluster::images;

use crate::agent::Agent;
use crate::daemonset::Plan;
use crate::eventually::{SOON, eventually};
use crate::mountpoints::{ensure_gone, ensure_single};
use crate::pods::{PodSpec, TestPod};
use crate::predecessors::{SPIFFE, only_spiffe};
use crate::scene::{DRIVER_LABEL, Scene, play};
use crate::socket::{sockets, wait_identity};

const MANIFEST: &str = include_str!("../../../manifests/spiffe-csi.yaml");

#[tokio::test]
async fn pods_of_spiffe_csi_continue_and_end_with_our_image() {
    let _one = only_spiffe().await;
    play("e2e-from-spiffe-csi", async |scene: &Scene| {
        let _agent = Agent::start(scene, &sockets(scene).join("agent.sock")).await?;
        scene.announce_passthrough(SPIFFE).await?;
        scene.deploy(&Plan { manifest: MANIFEST, driver: SPIFFE, args: Vec::new() }).await?;
        scene.register(SPIFFE, &scene.kubelet().join("plugins").join(SPIFFE).join("csi.sock")).await?;
        let old = scene.run(&PodSpec::on_socket("old", SPIFFE)).await?;
        wait_identity(&old, 0).await?;

        swap_image(scene).await?;
        fetch(&old).await.context("in the pod of before")?;
        ensure_single(scene, &old)?;
        let new = scene.run(&PodSpec::on_socket("new", SPIFFE)).await?;
        wait_identity(&new, 0).await?;

        ensure!(old.restarts().await? == 0, "the pod was restarted");
        old.delete().await?;
        old.wait_gone().await?;
        ensure_gone(scene, &old)
    })
    .await;
}

/// Only the image and the command; arguments, mounts and everything else stay.
async fn swap_image(scene: &Scene) -> Result<()> {
    let container = json!({
        "name": "spiffe-csi-driver",
        "image": images::SPIFFE_CSI,
        "command": null,
        "args": ["-workload-api-socket-dir", "/spire-agent-socket", "-csi-socket-path", "/spiffe-csi/csi.sock"],
    });
    let change = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    let sets: Api<DaemonSet> = scene.api();
    sets.patch("driver", &PatchParams::default(), &Patch::Strategic(change)).await?;
    let pods: Api<Pod> = scene.api();
    eventually("the driver's pod with our image", SOON, async || {
        let pods = pods.list(&ListParams::default().labels(DRIVER_LABEL)).await?.items;
        let [pod] = &pods[..] else { anyhow::bail!("there are {}", pods.len()) };
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
        let runs = |image: &str| statuses.iter().any(|one| one.image.ends_with(image) && one.started == Some(true));
        ensure!(runs(images::SPIFFE_CSI), "{statuses:?}");
        Ok(())
    })
    .await
}

/// A new connection, and a new identity over it.
async fn fetch(pod: &TestPod<'_>) -> Result<()> {
    pod.exec(&["/bin/workload", "watch", "--once", "--socket", "/spiffe/agent.sock"]).await.map(drop)
}
