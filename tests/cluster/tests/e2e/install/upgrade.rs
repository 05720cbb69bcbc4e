//! A release that is upgraded and rolled back while pods run.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::images::{NEXT_TAG, TAG};

use super::release::{Release, with_release};
use crate::mountpoints::ensure_single;
use crate::pods::{PodSpec, TestPod};
use crate::restart::{ensure_always_verified, wait_renewal};
use crate::scene::{Scene, play};
use crate::workload_api::{SOCKET, wait_update};

/// Pods of the profile standalone, one for each delivery.
pub struct Users<'a> {
    scene: &'a Scene,
    /// Verifies its files after each change.
    pub files: TestPod<'a>,
    /// Follows its socket.
    pub socket: TestPod<'a>,
}

impl<'a> Users<'a> {
    /// Runs them until both have their identities.
    pub async fn run(scene: &'a Scene, driver: &str) -> Result<Self> {
        let attributes = json!({"svid-csi/delivery": "files"});
        let files = scene.run(&PodSpec { attributes, ..PodSpec::on_files("files", driver) }).await?;
        let socket = scene.run(&PodSpec::watching("socket", driver, SOCKET)).await?;
        files.wait_line("a certificate", 0, |line| line["chain_ok"] == true).await?;
        wait_update(scene, &socket, 0, &Value::Null).await?;
        Ok(Self { scene, files, socket })
    }

    /// Renews both, and fails unless both are valid before and after.
    async fn ensure_renewed_by(&self, release: &Release<'_>) -> Result<()> {
        let (files, socket) = (self.files.lines().await?.len(), self.socket.lines().await?);
        release.renew_all().await?;
        wait_renewal(self.scene, &self.files, files).await?;
        wait_update(self.scene, &self.socket, socket.len(), socket.last().unwrap_or(&Value::Null)).await?;
        ensure_always_verified(self.scene, &self.files).await?;
        ensure!(self.socket.restarts().await? == 0, "the pod was restarted");
        ensure_single(self.scene, &self.socket)
    }
}

/// Values of the profile standalone for a driver of that name.
pub fn standalone(driver: &str) -> Value {
    json!({"app": {"name": driver, "trustDomain": "example.org"}})
}

#[tokio::test]
async fn pods_keep_their_identities_through_an_upgrade_and_a_rollback() {
    play("e2e-upgrade", async |scene: &Scene| {
        with_release(scene, "upgrade.svid-csi", async |release: &Release<'_>| {
            release.install("standalone", &standalone(release.driver)).await?;
            release.wait_driver(TAG).await?;
            let users = Users::run(scene, release.driver).await?;

            release.tag_next().await?;
            let changed = json!({"driverImage": {"tag": NEXT_TAG}, "app": {"certificateRequestDuration": "30m"}});
            release.upgrade(&changed).await?;
            ensure_lifetime(release, NEXT_TAG, "30m").await?;
            users.ensure_renewed_by(release).await.context("after the upgrade")?;

            release.rollback().await?;
            ensure_lifetime(release, TAG, "1h").await?;
            users.ensure_renewed_by(release).await.context("after the rollback")
        })
        .await
    })
    .await;
}

/// Waits for the driver with that image, and fails unless it has that lifetime as a flag.
async fn ensure_lifetime(release: &Release<'_>, tag: &str, lifetime: &str) -> Result<()> {
    let pod = release.wait_driver(tag).await?;
    let args = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.args).unwrap_or_default();
    ensure!(args.contains(&format!("--certificate-request-duration={lifetime}")), "the driver was told {args:?}");
    Ok(())
}
