//! Pods whose volume does not say `readOnly: true`.

use anyhow::ensure;

use crate::agent::Agent;
use crate::pods::PodSpec;
use crate::scene::{Scene, play};
use crate::socket::{deploy, sockets, wait_identity};

#[tokio::test]
async fn without_read_only_an_event_says_what_to_write() {
    play("e2e-read-only", async |scene: &Scene| {
        let _agent = Agent::start(scene, &sockets(scene).join("agent.sock")).await?;
        deploy(scene, "read-only.svid-csi", &[]).await?;
        let mut spec = PodSpec::on_socket("writer", "read-only.svid-csi");
        spec.read_only = None;
        let pod = scene.create(&spec).await?;
        let message = pod.wait_event("readOnly", |message| message.contains("readOnly")).await?;
        ensure!(
            message.contains("readOnly: true") || message.contains("readOnly must be set to 'true'"),
            "it says {message:?}"
        );
        ensure!(pod.restarts().await? == 0, "the pod ran");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn without_read_only_the_pod_runs_if_the_administrator_allows_it() {
    play("e2e-lenient", async |scene: &Scene| {
        let _agent = Agent::start(scene, &sockets(scene).join("agent.sock")).await?;
        deploy(scene, "lenient.svid-csi", &["--allow-missing-read-only"]).await?;
        let mut spec = PodSpec::on_socket("writer", "lenient.svid-csi");
        spec.read_only = None;
        let pod = scene.run(&spec).await?;
        wait_identity(&pod, 0).await?;
        ensure!(pod.exec(&["touch", "/spiffe/mine"]).await.is_err(), "the pod can write beside the agent's socket");
        let mount = pod.exec(&["grep", " /spiffe ", "/proc/self/mountinfo"]).await?;
        ensure!(
            mount.contains(" /spiffe rw,"),
            "this runtime keeps the read-only flag, so that nothing is shown: {mount}"
        );
        Ok(())
    })
    .await;
}

/// The mounts of the driver are read-only, and runc may not change that for another user namespace than the host's.
#[tokio::test]
async fn in_a_user_namespace_a_volume_without_read_only_keeps_the_pod_from_starting() {
    play("e2e-mapped", async |scene: &Scene| {
        let _agent = Agent::start(scene, &sockets(scene).join("agent.sock")).await?;
        deploy(scene, "mapped.svid-csi", &["--allow-missing-read-only"]).await?;
        let mut spec = PodSpec::on_socket("writer", "mapped.svid-csi");
        (spec.user_namespace, spec.read_only) = (true, None);
        let pod = scene.create(&spec).await?;
        pod.wait_event("the flag", |message| message.contains("cannot clear locked flags MS_RDONLY")).await.map(drop)
    })
    .await;
}
