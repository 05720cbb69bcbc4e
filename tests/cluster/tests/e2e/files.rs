//! Pods with their identity in files.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::daemonset::{Driver, OWN, Plan, files_args};
use crate::pods::{MOUNT, PodSpec};
use crate::scene::{Scene, play};

/// A driver that issues certificates with the lifetime `duration`.
pub async fn deploy<'a>(scene: &'a Scene, driver: &str, duration: &str) -> Result<Driver<'a>> {
    scene.announce_files(driver).await?;
    let args = files_args(scene, driver, duration);
    let deployed = scene.deploy(&Plan { manifest: OWN, driver, args }).await?;
    scene.wait_registered(driver).await?;
    Ok(deployed)
}

/// Fails unless a verification found a matching key, a valid chain and the identity of the pod's service account.
pub fn ensure_verified(scene: &Scene, line: &Value) -> Result<()> {
    let identity = format!("spiffe://example.org/ns/{}/sa/default", scene.name);
    ensure!(line["spiffe_id"] == identity, "{line} is not for {identity}");
    ensure!(line["key_matches"] == true && line["chain_ok"] == true, "{line} does not verify");
    Ok(())
}

#[tokio::test]
async fn the_files_of_a_pod_verify() {
    play("e2e-files", async |scene: &Scene| {
        deploy(scene, "files.svid-csi", "1h").await?;
        let pod = scene.run(&PodSpec::on_files("reader", "files.svid-csi")).await?;
        ensure_verified(scene, &pod.verify_files().await?)?;
        let names = pod.exec(&["ls", MOUNT]).await?;
        ensure!(names.split_whitespace().eq(["ca.crt", "tls.crt", "tls.key"]), "the files are {names}");
        let write = pod.exec(&["touch", "/spiffe/mine"]).await;
        ensure!(write.is_err(), "a pod can write to its volume");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_is_not_root_reads_them_through_its_group() {
    play("e2e-group", async |scene: &Scene| {
        deploy(scene, "group.svid-csi", "1h").await?;
        let mut spec = PodSpec::on_files("member", "group.svid-csi");
        spec.security = json!({"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "fsGroup": 2000});
        let pod = scene.run(&spec).await?;
        ensure_verified(scene, &pod.verify_files().await?)?;
        let key = pod.exec(&["stat", "-L", "-c", "%u %g %a", "/spiffe/tls.key"]).await?;
        ensure!(key.trim() == "0 2000 440", "the key has owner, group and mode {key}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_outside_the_group_cannot_read_the_key() {
    play("e2e-stranger", async |scene: &Scene| {
        deploy(scene, "stranger.svid-csi", "1h").await?;
        let mut spec = PodSpec::new("stranger", "stranger.svid-csi", vec!["/bin/sleep", "2147483647"]);
        spec.security = json!({"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true});
        let pod = scene.run(&spec).await?;
        ensure!(pod.exec(&["cat", "/spiffe/tls.key"]).await.is_err(), "a stranger reads the key");
        Ok(())
    })
    .await;
}
