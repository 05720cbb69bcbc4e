//! The node itself, without any driver: pods run, and what a driver relies on works.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::json;
use svid_csi_cluster::{images, mounts};

use crate::pods::TestPod;
use crate::scene::{Scene, play};

#[tokio::test]
async fn a_mount_made_in_a_privileged_pod_reaches_the_host() {
    play("e2e-harness", async |scene: &Scene| {
        let shared = scene.folder.join("shared");
        let pod = privileged(scene, &shared).await?;
        pod.wait_running().await?;
        pod.exec(&["mkdir", "/shared/tmp"]).await?;
        pod.exec(&["mount", "-t", "tmpfs", "tmpfs", "/shared/tmp"]).await?;
        ensure!(mounts::count_on(&shared.join("tmp"))? == 1, "the host does not see the mount");
        let failed = pod.exec(&["false"]).await;
        ensure!(failed.is_err(), "a failed command passes for a success");
        Ok(())
    })
    .await;
}

async fn privileged<'a>(scene: &'a Scene, shared: &Path) -> Result<TestPod<'a>> {
    let container = json!({
        "name": "main",
        "image": images::BUSYBOX,
        "imagePullPolicy": "Never",
        "securityContext": {"privileged": true},
        "volumeMounts": [{"name": "shared", "mountPath": "/shared", "mountPropagation": "Bidirectional"}],
    });
    let volume = json!({"name": "shared", "hostPath": {"path": shared, "type": "DirectoryOrCreate"}});
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "privileged"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [volume]},
    }))?;
    let pod = scene.api().create(&PostParams::default(), &pod).await?;
    Ok(scene.known(&pod.name_any(), &pod.uid().context("a created pod has a UID")?))
}
