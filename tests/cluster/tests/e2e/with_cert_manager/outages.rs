//! Temporary failures of parts of the chain.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use svid_csi_cluster::cert_manager::DefaultApprover;
use svid_csi_cluster::requests::condition;
use svid_csi_cluster::session::Session;
use svid_csi_cluster::tools::Tools;
use svid_csi_cluster::{control_plane, predecessor};

use super::stage::{Stage, play_alone_with, play_with};
use crate::eventually::{SOON, eventually, throughout};
use crate::files::ensure_verified;
use crate::mountpoints::ensure_gone;
use crate::pods::{PodSpec, TestPod};
use crate::restart::wait_renewal;

/// Short enough to see renewals, long enough to outlast an outage.
pub const BRIEF: Duration = Duration::from_secs(30);
/// Long enough for the kubelet to retry a few times.
const A_WHILE: Duration = Duration::from_secs(6);

/// The permissions and the bundle; returns the flag that names it.
pub async fn set(stage: &Stage<'_>) -> Result<String> {
    stage.announce(None).await?;
    stage.put(&predecessor::requester(&stage.scene.name, "default")).await?;
    Ok(format!("--source-ca-bundle={}", stage.write_bundle(&[stage.ca.certificate()])?.display()))
}

/// Runs a pod that watches its files, and waits until it has read them.
pub async fn run_watcher<'a>(stage: &Stage<'a>, name: &str) -> Result<TestPod<'a>> {
    let pod = stage.scene.run(&PodSpec::on_files(name, &stage.driver_name())).await?;
    pod.wait_line("a certificate", 0, |line| line["chain_ok"] == true).await?;
    Ok(pod)
}

#[tokio::test]
async fn pods_wait_for_an_approver_with_one_request_each() {
    play_with("e2e-unapproved", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let bundle = set(stage).await?;
        stage.driver(&[&bundle]).await?;
        let pod = stage.scene.create(&PodSpec::on_files("patient", &stage.driver_name())).await?;
        let made = eventually("the pod's request", SOON, async || {
            stage.requests_of(&pod).await?.pop().context("there is none")
        })
        .await?;
        throughout("its only request", A_WHILE, async || {
            let all = stage.requests_of(&pod).await?;
            ensure!(all.len() == 1, "it has {} requests", all.len());
            Ok(())
        })
        .await?;
        let approver = stage.approver(&[]).await?;
        pod.wait_running().await?;
        ensure_verified(stage.scene, &pod.verify_files().await?)?;
        let all = stage.requests_of(&pod).await?;
        ensure!(all.iter().all(|one| one.metadata.uid == made.metadata.uid), "another request was made");

        // Down and up once more: pods that have a certificate do not notice.
        approver.end().await?;
        let _approver = stage.approver(&[]).await?;
        ensure_verified(stage.scene, &pod.verify_files().await?)
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_while_its_volume_waits_leaves_nothing() {
    play_with("e2e-impatient", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let bundle = set(stage).await?;
        stage.driver(&[&bundle]).await?;
        let pod = stage.scene.create(&PodSpec::on_files("impatient", &stage.driver_name())).await?;
        eventually("the pod's request", SOON, async || stage.requests_of(&pod).await?.pop().context("there is none"))
            .await?;
        pod.delete().await?;
        pod.wait_gone().await?;
        ensure_gone(stage.scene, &pod)?;
        eventually("the request to go", SOON, async || {
            let left = stage.requests_of(&pod).await?.len();
            ensure!(left == 0, "{left} are left");
            Ok(())
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn certificates_outlive_cert_manager_and_renew_when_it_is_back() {
    play_with("e2e-unsigned-while", BRIEF, async |stage: &Stage<'_>| {
        let bundle = set(stage).await?;
        let _approver = stage.approver(&[]).await?;
        let driver = stage.driver(&[&bundle]).await?;
        let pod = run_watcher(stage, "user").await?;
        let held = pod.verify_files().await?["serial"].clone();

        stage.cert_manager.stop_controllers()?;
        eventually("the renewal to be due", SOON, async || {
            let waiting = waiting(stage, &pod).await?;
            ensure!(waiting == 1, "{waiting} requests wait");
            Ok(())
        })
        .await?;
        throughout("the certificate it has", A_WHILE, async || {
            let (waiting, seen) = (waiting(stage, &pod).await?, pod.exec(&["cat", "/spiffe/tls.crt"]).await?);
            ensure!(waiting == 1 && !seen.is_empty(), "{waiting} requests wait");
            Ok(())
        })
        .await?;
        ensure!(pod.lines().await?.iter().all(|line| line["serial"] == held), "somebody has signed");
        let seen = pod.lines().await?.len();
        stage.cert_manager.start_controllers(DefaultApprover::Off)?;
        wait_renewal(stage.scene, &pod, seen).await?;

        // Now requests cannot even be created.
        stage.cert_manager.stop_webhook()?;
        let before = stage.requests_of(&pod).await?.len();
        let _ = driver.renew(&["--all"]).await;
        pod.exec(&["cat", "/spiffe/tls.key"]).await.context("the files are gone")?;
        let seen = pod.lines().await?.len();
        let cert_manager = &stage.cert_manager;
        cert_manager.start_webhook()?;
        wait_renewal(stage.scene, &pod, seen).await?;
        let after = stage.requests_of(&pod).await?.len();
        ensure!(after <= before + 2, "a storm: {before} requests before, {after} after");
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        Ok(())
    })
    .await;
}

/// The number of the pod's requests that are not signed.
async fn waiting(stage: &Stage<'_>, pod: &TestPod<'_>) -> Result<usize> {
    let all = stage.requests_of(pod).await?;
    Ok(all.iter().filter(|request| condition(request, "Ready").is_none()).count())
}

#[tokio::test]
async fn the_watch_continues_after_a_restart_of_the_api_server() {
    play_alone_with("e2e-restarted", BRIEF, async |stage: &Stage<'_>| {
        let (scene, bundle) = (stage.scene, set(stage).await?);
        let mut approver = stage.approver(&[]).await?;
        stage.driver(&[&bundle]).await?;
        let pod = run_watcher(stage, "early").await?;

        let (layout, session) = (scene.layout.clone(), Session::load(&scene.layout)?);
        let restart = move || control_plane::restart_apiserver(&layout, &Tools::new(&layout), &session);
        tokio::task::spawn_blocking(restart).await??;
        approver.wait_ready().await?;
        let later = run_watcher(stage, "later").await?;
        ensure_verified(scene, &later.verify_files().await?)?;
        let seen = pod.lines().await?.len();
        wait_renewal(scene, &pod, seen).await?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        Ok(())
    })
    .await;
}
