//! Drivers that are replaced, killed or stopped while pods use their volumes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::agent::Agent;
use crate::daemonset::kill;
use crate::eventually::{SOON, eventually, throughout};
use crate::files::ensure_verified;
use crate::mountpoints::{ensure_gone, ensure_single};
use crate::pods::{PodSpec, TestPod};
use crate::scene::{Scene, play};
use crate::socket::{sockets, wait_identity};
use crate::{files, socket};

/// Short enough to see renewals, long enough to outlast a replacement.
const BRIEF: &str = "30s";

/// Waits for a certificate that was not in the pod's first `seen` lines.
pub async fn wait_renewal(scene: &Scene, pod: &TestPod<'_>, seen: usize) -> Result<Value> {
    let old = pod.lines().await?.get(seen.saturating_sub(1)).map(|line| line["serial"].clone());
    let old = old.context("the pod has printed nothing yet")?;
    let line = pod.wait_line("a renewed certificate", seen, |line| line["serial"] != old).await?;
    ensure_verified(scene, &line)?;
    Ok(line)
}

/// Fails if the pod ever read a key that does not match its certificate, or a chain that does not verify.
pub async fn ensure_always_verified(scene: &Scene, pod: &TestPod<'_>) -> Result<()> {
    pod.lines().await?.iter().try_for_each(|line| ensure_verified(scene, line))?;
    ensure!(pod.restarts().await? == 0, "pod {} was restarted", pod.name);
    ensure_single(scene, pod)
}

#[tokio::test]
async fn pods_keep_their_files_while_the_driver_is_replaced_and_renewals_continue() {
    play("e2e-replaced", async |scene: &Scene| {
        let driver = files::deploy(scene, "replaced.svid-csi", BRIEF).await?;
        let pod = scene.run(&PodSpec::on_files("user", "replaced.svid-csi")).await?;
        pod.wait_line("a certificate", 0, |line| line["chain_ok"] == true).await?;

        driver.replace(async || ensure_verified(scene, &pod.verify_files().await?)).await?;
        let seen = pod.lines().await?.len();
        wait_renewal(scene, &pod, seen).await?;
        ensure_always_verified(scene, &pod).await
    })
    .await;
}

#[tokio::test]
async fn pods_keep_their_socket_while_the_driver_is_replaced() {
    play("e2e-relayed", async |scene: &Scene| {
        let socket = sockets(scene).join("agent.sock");
        let agent = Agent::start(scene, &socket).await?;
        let driver = socket::deploy(scene, "relayed.svid-csi", &[]).await?;
        let pod = scene.run(&PodSpec::on_socket("user", "relayed.svid-csi")).await?;
        wait_identity(&pod, 0).await?;
        let fetch = ["/bin/workload", "watch", "--once", "--socket", "/spiffe/agent.sock"];
        driver.replace(async || pod.exec(&fetch).await.map(drop)).await?;

        // The next driver maintains the folder like the first.
        drop(agent);
        fs::remove_dir_all(sockets(scene))?;
        let seen = pod.lines().await?.len();
        let _agent = Agent::start(scene, &socket).await?;
        wait_identity(&pod, seen).await?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        ensure_single(scene, &pod)
    })
    .await;
}

#[tokio::test]
async fn a_killed_driver_continues_where_it_was() {
    play("e2e-killed", async |scene: &Scene| {
        let name = "killed.svid-csi";
        let driver = files::deploy(scene, name, BRIEF).await?;
        let pod = scene.run(&PodSpec::on_files("user", name)).await?;
        pod.wait_line("a certificate", 0, |line| line["chain_ok"] == true).await?;

        kill(name)?;
        driver.wait_running(Some(1)).await?;
        let seen = pod.lines().await?.len();
        wait_renewal(scene, &pod, seen).await?;
        ensure_always_verified(scene, &pod).await
    })
    .await;
}

#[tokio::test]
async fn pods_deleted_while_the_driver_is_down_end_when_it_is_back() {
    play("e2e-away", async |scene: &Scene| {
        let driver = files::deploy(scene, "away.svid-csi", "1h").await?;
        let pod = scene.run(&PodSpec::on_files("user", "away.svid-csi")).await?;
        pod.wait_line("a certificate", 0, |line| line["chain_ok"] == true).await?;

        driver.withdraw().await?;
        pod.delete().await?;
        throughout("the pod", Duration::from_secs(5), async || {
            ensure!(pod.exists().await?, "it went while its volume was mounted");
            Ok(())
        })
        .await?;
        driver.restore().await?;
        pod.wait_gone().await?;
        ensure_gone(scene, &pod)?;
        eventually("the driver to forget the keys", SOON, async || ensure_no_keys(&scene.folder.join("data"))).await
    })
    .await;
}

/// Fails if there is a private key anywhere in a folder.
fn ensure_no_keys(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        ensure!(entry.file_name() != "tls.key", "{} is left", entry.path().display());
        if entry.file_type()?.is_dir() {
            ensure_no_keys(&entry.path())?;
        }
    }
    Ok(())
}
