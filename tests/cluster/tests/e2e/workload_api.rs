//! Pods with a Workload API of the driver in their volume.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::clients::Client;
use crate::daemonset::{Driver, OWN, Plan, kill, minting_args};
use crate::mountpoints::ensure_single;
use crate::pods::{PodSpec, TestPod, json_lines};
use crate::scene::{Scene, play};

/// The command of a pod that watches its socket.
pub const SOCKET: [&str; 2] = ["--socket", "/spiffe/agent.sock"];
/// Short enough to see renewals, long enough to outlast a replacement.
const BRIEF: &str = "30s";
const AUDIENCE: &str = "vault";

async fn deploy<'a>(scene: &'a Scene, driver: &str) -> Result<Driver<'a>> {
    scene.announce_files(driver).await?;
    let args = minting_args(scene, driver, "workload-api", BRIEF);
    let deployed = scene.deploy(&Plan { manifest: OWN, driver, args }).await?;
    scene.wait_registered(driver).await?;
    Ok(deployed)
}

fn identity(scene: &Scene) -> String {
    format!("spiffe://example.org/ns/{}/sa/default", scene.name)
}

/// Waits for an update of `svid-csi watch` after the first `seen` lines, with a certificate other than `last`.
pub async fn wait_update(scene: &Scene, pod: &TestPod<'_>, seen: usize, last: &Value) -> Result<Value> {
    let (id, last) = (identity(scene), &last["svids"][0]["serial"]);
    let wanted = |line: &Value| line["svids"][0]["spiffe_id"] == id && line["svids"][0]["serial"] != *last;
    pod.wait_line("an update", seen, wanted).await
}

#[tokio::test]
async fn a_pod_follows_its_socket_while_the_driver_is_replaced() {
    play("e2e-served", async |scene: &Scene| {
        let name = "served.svid-csi";
        let driver = deploy(scene, name).await?;
        let pod = scene.run(&PodSpec::watching("watcher", name, SOCKET)).await?;
        let first = wait_update(scene, &pod, 0, &Value::Null).await?;
        ensure!(first["svids"][0]["bundle"] == 1 && first["source"] == SOCKET[1], "{first}");
        let once = ["/bin/svid-csi", "watch", "--once", "--json", "--audience", AUDIENCE, SOCKET[0], SOCKET[1]];
        let seen = json_lines(&pod.exec(&once).await?);
        ensure!(seen.len() == 1 && seen[0]["tokens"][0]["sub"] == identity(scene), "{seen:?}");

        driver.replace(async || Ok(())).await?;
        let (seen, last) = (pod.lines().await?.len(), pod.exec(&once).await?);
        wait_update(scene, &pod, seen, &json_lines(&last)[0]).await?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        ensure_single(scene, &pod)
    })
    .await;
}

#[tokio::test]
async fn official_clients_reconnect_after_the_driver_was_killed() {
    play("e2e-clients", async |scene: &Scene| {
        let name = "clients.svid-csi";
        let driver = deploy(scene, name).await?;
        let pod = scene.run(&PodSpec::new("user", name, vec!["/bin/sleep", "2147483647"])).await?;
        let mut clients = [Client::go(scene, &pod, AUDIENCE)?, Client::python(scene, &pod, AUDIENCE)?];
        let id = identity(scene);
        let svid = |line: &Value| line["event"] == "x509" && line["spiffe_id"] == id && line["bundle"] == 1;
        let token = |line: &Value| line["event"] == "jwt" && line["spiffe_id"] == id && line["audience"][0] == AUDIENCE;
        let mut before = Vec::new();
        for client in &mut clients {
            let serial = client.wait_line("its SVID", 0, svid).await?["serial"].clone();
            client.wait_line("a token", 0, token).await?;
            before.push((serial, client.lines()?));
        }

        kill(name)?;
        driver.wait_running(Some(1)).await?;
        for (client, (serial, lines)) in clients.iter_mut().zip(before) {
            let seen = client.lines()?;
            client.wait_line("the next SVID", seen, |line| svid(line) && line["serial"] != serial).await?;
            client.wait_line("another token", lines, token).await?;
        }
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        ensure_single(scene, &pod)
    })
    .await;
}

#[tokio::test]
async fn each_rotation_is_pushed_to_an_envoy() {
    play("e2e-envoy", async |scene: &Scene| {
        deploy(scene, "envoy.svid-csi").await?;
        let pod = scene.run(&PodSpec::new("user", "envoy.svid-csi", vec!["/bin/sleep", "2147483647"])).await?;
        let mut envoy = Client::envoy(scene, &pod, &["default", "ROOTCA"])?;
        let id = identity(scene);
        let bundle = |line: &Value| line["secrets"][0]["trust_domains"]["example.org"] == 1;
        let pair = |line: &Value| bundle(line) && line["secrets"][1]["spiffe_id"] == id;
        let first = envoy.wait_line("its secrets", 0, pair).await?;
        let serial = &first["secrets"][1]["serial"];
        let second =
            envoy.wait_line("the next secrets", 1, |line| pair(line) && line["secrets"][1]["serial"] != *serial);
        let second = second.await?;
        ensure!(second["version"] != first["version"], "{second}");
        Ok(())
    })
    .await;
}
