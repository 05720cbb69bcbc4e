//! A driver and an approver of two versions, in both combinations, as during an upgrade.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::images::{NEXT_TAG, TAG};

use super::release::{Release, with_release};
use crate::files::ensure_verified;
use crate::mountpoints::ensure_single;
use crate::pods::{MOUNT, PodSpec, TestPod};
use crate::restart::{ensure_always_verified, wait_renewal};
use crate::scene::Scene;
use crate::with_cert_manager::stage::{Stage, play_with};

#[tokio::test]
async fn requests_are_approved_while_driver_and_approver_differ() {
    play_with("e2e-versions", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let scene = stage.scene;
        with_release(scene, "versions.svid-csi", async |release: &Release<'_>| {
            release.install("cert-manager", &values(stage, release).await?).await?;
            wait_both(release, TAG, TAG).await?;
            let first = run(scene, release.driver, "first").await?;

            release.tag_next().await?;
            for (driver, approver, name) in [(NEXT_TAG, TAG, "second"), (TAG, NEXT_TAG, "third")] {
                let tags = json!({"driverImage": {"tag": driver}, "approverImage": {"tag": approver}});
                release.upgrade(&tags).await?;
                wait_both(release, driver, approver).await?;
                ensure_served(release, &first, name).await.with_context(|| format!("{driver} and {approver}"))?;
            }
            Ok(())
        })
        .await
    })
    .await;
}

async fn values(stage: &Stage<'_>, release: &Release<'_>) -> Result<Value> {
    let (name, home) = ("bundle", &release.home.name);
    let data = json!({"ca.crt": stage.ca.certificate()});
    let metadata = json!({"name": name, "namespace": home});
    stage.put(&[json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})]).await?;
    Ok(json!({
        "trustBundle": format!("configmap:{home}/{name}/ca.crt"),
        "app": {"name": release.driver, "trustDomain": "example.org", "issuer": {"name": stage.terms.issuer}},
    }))
}

async fn wait_both(release: &Release<'_>, driver: &str, approver: &str) -> Result<()> {
    release.wait_driver(driver).await?;
    release.wait_pods("approver", approver).await.map(drop)
}

async fn run<'a>(scene: &'a Scene, driver: &str, name: &str) -> Result<TestPod<'a>> {
    let pod = scene.run(&PodSpec::on_files(name, driver)).await?;
    pod.wait_line("a certificate", 0, |line| line["chain_ok"] == true).await?;
    Ok(pod)
}

/// An existing pod is renewed, and a new one of that name gets its identity.
async fn ensure_served(release: &Release<'_>, old: &TestPod<'_>, name: &str) -> Result<()> {
    let seen = old.lines().await?.len();
    release.renew_all().await?;
    wait_renewal(release.users, old, seen).await?;
    ensure_always_verified(release.users, old).await?;
    let new = run(release.users, release.driver, name).await?;
    ensure_verified(release.users, &new.verify_files().await?)?;
    ensure!(new.exec(&["ls", MOUNT]).await?.contains("ca.crt"), "there is no bundle");
    ensure_single(release.users, &new)
}
