//! A release that is uninstalled while pods still use it, as described in `docs/install.md`.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::api::Api;
use serde_json::json;
use svid_csi_cluster::images::TAG;

use super::release::{Release, with_release};
use super::upgrade::standalone;
use crate::eventually::{SOON, eventually, throughout};
use crate::files::ensure_verified;
use crate::mountpoints::{ensure_gone, ensure_single};
use crate::pods::{PodSpec, TestPod};
use crate::scene::{Scene, play};
use crate::workload_api::SOCKET;

/// Whether the call is answered within a second.
const ONCE: [&str; 7] = ["/bin/svid-csi", "watch", "--once", "--timeout", "1s", SOCKET[0], SOCKET[1]];
/// A container that ends when it is asked to.
const UNTIL_TOLD: [&str; 3] = ["/bin/sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.1; done"];

#[tokio::test]
async fn pods_outlive_their_driver_and_end_once_it_is_back() {
    play("e2e-uninstall", async |scene: &Scene| {
        with_release(scene, "uninstall.svid-csi", async |release: &Release<'_>| {
            release.install("standalone", &standalone(release.driver)).await?;
            let attributes = json!({"svid-csi/delivery": "files"});
            let files = PodSpec { attributes, ..PodSpec::new("files", release.driver, UNTIL_TOLD.into()) };
            let files = scene.run(&files).await?;
            let socket = scene.run(&PodSpec::watching("socket", release.driver, SOCKET)).await?;
            socket.exec(&ONCE).await?;

            release.uninstall().await?;
            let drivers: Api<CSIDriver> = Api::all(scene.client.clone());
            ensure!(drivers.get_opt(release.driver).await?.is_none(), "the CSIDriver object is left");
            ensure!(socket.exec(&ONCE).await.is_err(), "a driver that is gone answers");
            ensure_files_outlive_a_restart(scene, &files).await?;
            files.delete().await?;
            throughout("the pod", Duration::from_secs(5), async || {
                ensure!(files.exists().await?, "it went while its volume was mounted");
                Ok(())
            })
            .await?;

            release.install("standalone", &standalone(release.driver)).await?;
            release.wait_driver(TAG).await?;
            files.wait_gone().await?;
            ensure_gone(scene, &files)?;
            eventually("the socket to answer again", SOON, async || socket.exec(&ONCE).await).await?;
            ensure!(socket.restarts().await? == 0, "the pod was restarted");
            ensure_single(scene, &socket)
        })
        .await
    })
    .await;
}

async fn ensure_files_outlive_a_restart(scene: &Scene, pod: &TestPod<'_>) -> Result<()> {
    ensure_verified(scene, &pod.verify_files().await?)?;
    pod.exec(&["touch", "/tmp/end"]).await?;
    eventually("the container's next life", SOON, async || {
        ensure!(pod.restarts().await? == 1, "it was restarted {} times", pod.restarts().await?);
        ensure_verified(scene, &pod.verify_files().await?)
    })
    .await
}
