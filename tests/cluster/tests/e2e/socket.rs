//! Pods that connect to the agent on the host through a socket in their volume.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::agent::{Agent, IDENTITY};
use crate::daemonset::{Driver, OWN, Plan, files_args, passthrough_args, words};
use crate::files::ensure_verified;
use crate::pods::{PodSpec, TestPod};
use crate::predecessors::{SPIFFE, only_spiffe};
use crate::scene::{Scene, play};

/// The folder of the agent, replaced in some tests.
pub fn sockets(scene: &Scene) -> PathBuf {
    scene.folder.join("agent/sockets")
}

/// A driver that passes the sockets of [`sockets`] on.
pub async fn deploy<'a>(scene: &'a Scene, driver: &str, more: &[&str]) -> Result<Driver<'a>> {
    scene.announce_passthrough(driver).await?;
    let mut args = passthrough_args(scene, driver);
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    let deployed = scene.deploy(&Plan { manifest: OWN, driver, args }).await?;
    scene.wait_registered(driver).await?;
    Ok(deployed)
}

/// Waits until the pod has read an identity that was not in its first `seen` lines.
pub async fn wait_identity(pod: &TestPod<'_>, seen: usize) -> Result<Value> {
    pod.wait_line("its identity", seen, |line| line["event"] == "svid" && line["spiffe_id"] == IDENTITY).await
}

#[tokio::test]
async fn a_pod_reads_its_identity_and_the_agent_sees_the_pods_process() {
    play("e2e-socket", async |scene: &Scene| {
        let agent = Agent::start(scene, &sockets(scene).join("agent.sock")).await?;
        deploy(scene, "socket.svid-csi", &[]).await?;
        let pod = scene.run(&PodSpec::on_socket("reader", "socket.svid-csi")).await?;
        wait_identity(&pod, 0).await?;

        let callers = agent.callers()?;
        let own = callers.iter().find(|caller| caller["cgroup"].to_string().contains(&pod.uid));
        let caller = own.with_context(|| format!("no caller is a process of the pod: {callers:?}"))?;
        ensure!(caller["exe"].as_str().is_some_and(|exe| exe.ends_with("/bin/workload")), "the caller is {caller}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_starts_before_its_agent_does() {
    play("e2e-early", async |scene: &Scene| {
        deploy(scene, "early.svid-csi", &[]).await?;
        let pod = scene.run(&PodSpec::on_socket("early", "early.svid-csi")).await?;
        pod.wait_line("that there is no agent yet", 0, |line| line["event"] == "error").await?;
        let _agent = Agent::start(scene, &sockets(scene).join("agent.sock")).await?;
        wait_identity(&pod, 0).await?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_running_pod_follows_the_agents_folder_when_it_is_re_created() {
    play("e2e-healing", async |scene: &Scene| {
        let socket = sockets(scene).join("agent.sock");
        let agent = Agent::start(scene, &socket).await?;
        deploy(scene, "healing.svid-csi", &[]).await?;
        let pod = scene.run(&PodSpec::on_socket("follower", "healing.svid-csi")).await?;
        let before = wait_identity(&pod, 0).await?;

        drop(agent);
        fs::remove_dir_all(sockets(scene))?;
        let seen = pod.lines().await?.len();
        let _agent = Agent::start(scene, &socket).await?;
        let after = wait_identity(&pod, seen).await?;
        ensure!(before["serial"] != after["serial"], "the pod repeats the old agent's word");
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn one_process_serves_both_names() {
    let _one = only_spiffe().await;
    play("e2e-both", async |scene: &Scene| {
        let _agent = Agent::start(scene, &sockets(scene).join("agent.sock")).await?;
        let driver = "both.svid-csi";
        scene.announce_files(driver).await?;
        scene.announce_passthrough(SPIFFE).await?;
        let path = scene.kubelet().join("plugins").join(SPIFFE).join("csi.sock");
        let also = format!("{SPIFFE}:csi-socket=/second-plugin/csi.sock,registration-path={}", path.display());
        let mut args = files_args(scene, driver, "1h");
        args.extend(words(&["--also-profile", &also, "-workload-api-socket-dir", "/agent/sockets"]));
        args.extend(words(&["--stable-socket-dir", "/agent/stable"]));
        scene.deploy(&Plan { manifest: OWN, driver, args }).await?;
        scene.wait_registered(driver).await?;
        scene.wait_registered(SPIFFE).await?;

        let files = scene.run(&PodSpec::on_files("files", driver)).await?;
        ensure_verified(scene, &files.verify_files().await?)?;
        let socket = scene.run(&PodSpec::on_socket("socket", SPIFFE)).await?;
        wait_identity(&socket, 0).await.map(drop)
    })
    .await;
}
