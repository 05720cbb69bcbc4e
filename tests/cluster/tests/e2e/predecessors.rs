//! The DaemonSets of users of the predecessors, with our image: the features that work, and those that their shape
//! rules out. `docs/predecessor-daemonsets.md` documents the same for users.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::{Mutex, MutexGuard};

use crate::daemonset::{Driver, Plan, words};
use crate::eventually::throughout;
use crate::pods::{PodSpec, TestPod};
use crate::restart::{ensure_always_verified, wait_renewal};
use crate::scene::{Scene, play};
use crate::socket::wait_identity;

/// The name of the driver in spiffe-csi's manifests.
pub const SPIFFE: &str = "csi.spiffe.io";
const EMPTY_DIR: &str = include_str!("../../manifests/seed-003.yaml");
const HOST_PATH: &str = include_str!("../../manifests/seed-004.yaml");
const CSI_DRIVER_SPIFFE: &str = include_str!("../../manifests/csi-driver-spiffe.yaml");

/// These manifests name one driver, which a node can have only once.
pub async fn only_spiffe() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

async fn deploy_seed<'a>(scene: &'a Scene, manifest: &str) -> Result<Driver<'a>> {
    scene.announce_passthrough(SPIFFE).await?;
    let driver = scene.deploy(&Plan { manifest, driver: SPIFFE, args: Vec::new() }).await?;
    scene.register(SPIFFE, &scene.kubelet().join("plugins").join(SPIFFE).join("csi.sock")).await?;
    Ok(driver)
}

async fn run_reader<'a>(scene: &'a Scene, name: &str) -> Result<TestPod<'a>> {
    let command = vec!["/bin/workload", "watch", "--socket", "/spiffe/spire-agent.sock"];
    let pod = scene.run(&PodSpec::new(name, SPIFFE, command)).await?;
    wait_identity(&pod, 0).await?;
    Ok(pod)
}

#[tokio::test]
async fn an_agent_in_a_host_path_may_be_replaced_under_running_pods() {
    let _one = only_spiffe().await;
    play("e2e-seed-004", async |scene: &Scene| {
        let driver = deploy_seed(scene, HOST_PATH).await?;
        let pod = run_reader(scene, "reader").await?;
        let seen = pod.lines().await?.len();
        driver.replace(async || Ok(())).await?;
        wait_identity(&pod, seen).await?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        run_reader(scene, "later").await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn running_pods_lose_an_agent_in_an_empty_dir() {
    let _one = only_spiffe().await;
    play("e2e-seed-003", async |scene: &Scene| {
        let driver = deploy_seed(scene, EMPTY_DIR).await?;
        let pod = run_reader(scene, "reader").await?;
        driver.replace(async || Ok(())).await?;
        run_reader(scene, "later").await?;

        // The folder disappeared with the driver's pod, and no bind mount can follow it. An event asks for a restart of
        // the pod, as long as the kubelet reads the conditions of volumes.
        let seen = pod.lines().await?.len();
        if scene.layout.kubernetes < "1.37" {
            pod.wait_event("its dead volume", |message| message.starts_with("Volume identity:")).await?;
        }
        throughout("the silence", Duration::from_secs(3), async || {
            let lines = pod.lines().await?;
            ensure!(!lines.iter().skip(seen).any(|line| line["event"] == "svid"), "the pod reconnected after all");
            Ok(())
        })
        .await?;
        pod.delete().await?;
        pod.wait_gone().await?;
        run_reader(scene, "reader").await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn files_are_renewed_after_a_replacement_although_the_data_root_is_not_shared() {
    play("e2e-unshared", async |scene: &Scene| {
        let name = "unshared.svid-csi";
        scene.announce_files(name).await?;
        let mut args = words(&["driver", "--source", "local-ca", "--delivery", "files", "--driver-name", name]);
        args.extend(words(&["--node-id=$(NODE_ID)", "--endpoint=$(CSI_ENDPOINT)", "--data-root=csi-data-dir"]));
        args.extend(words(&["--trust-domain=example.org", "--certificate-request-duration=30s"]));
        let driver = scene.deploy(&Plan { manifest: CSI_DRIVER_SPIFFE, driver: name, args }).await?;
        scene.register(name, &scene.kubelet().join("plugins").join(name).join("csi.sock")).await?;
        let pod = scene.run(&PodSpec::on_files("user", name)).await?;
        pod.wait_line("a certificate", 0, |line| line["chain_ok"] == true).await?;

        driver.replace(async || pod.verify_files().await.map(drop)).await?;
        let seen = pod.lines().await?.len();
        wait_renewal(scene, &pod, seen).await?;
        ensure_always_verified(scene, &pod).await.context("after the replacement")
    })
    .await;
}
