//! The driver with exactly the permissions of the predecessor's chart, and without one that a pod needs.

use std::time::Duration;

use anyhow::ensure;
use svid_csi_cluster::predecessor;

use super::stage::{Stage, play_with};
use crate::eventually::{SOON, eventually};
use crate::files::ensure_verified;
use crate::pods::PodSpec;

#[tokio::test]
async fn an_event_names_the_permission_that_a_pod_lacks() {
    play_with("e2e-no-rights", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let scene = stage.scene;
        stage.announce(None).await?;
        let _approver = stage.approver(&[]).await?;
        let bundle = format!("--source-ca-bundle={}", stage.write_bundle(&[stage.ca.certificate()])?.display());
        let driver = stage.driver(&[&bundle]).await?;
        let pod = scene.create(&PodSpec::on_files("user", &stage.driver_name())).await?;
        let other = scene.create(&PodSpec::on_files("other", &stage.driver_name())).await?;
        let user = format!("system:serviceaccount:{}:default", scene.name);
        let message = pod.wait_event("the right it lacks", |message| message.contains("certificaterequests")).await?;
        for word in ["create", "certificaterequests", "cert-manager.io", user.as_str()] {
            ensure!(message.contains(word), "the event says {message:?}, and not {word}");
        }
        ensure!(stage.requests_of(&pod).await?.is_empty(), "a request was made all the same");
        other.wait_event("the right it lacks", |message| message.contains("certificaterequests")).await?;

        // The chart does not let the driver write events either, which is logged once for all of them.
        let said = eventually("the driver to name the right it lacks", SOON, async || {
            let said = driver.log()?.lines().filter(|line| line.contains("`create` on `events`")).count();
            ensure!(said > 0, "it does not");
            Ok(said)
        })
        .await?;
        ensure!(said == 1, "it is said {said} times");

        stage.put(&predecessor::requester(&scene.name, "default")).await?;
        for pod in [pod, other] {
            pod.wait_running().await?;
            ensure_verified(scene, &pod.verify_files().await?)?;
        }
        Ok(())
    })
    .await;
}
