//! SPIRE's own command-line client on a socket of the driver.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svid_csi_cluster::program::Program;
use svid_csi_cluster::tools::Tools;

use crate::clients;
use crate::daemonset::{OWN, Plan, minting_args};
use crate::eventually::{SOON, eventually};
use crate::pods::PodSpec;
use crate::scene::{Scene, play};

const DRIVER: &str = "spire-client.svid-csi";

#[tokio::test]
#[ignore = "needs SPIRE: just foreign"]
async fn spires_own_client_understands_the_drivers_socket() {
    play("e2e-spire-client", async |scene: &Scene| {
        scene.announce_files(DRIVER).await?;
        let args = minting_args(scene, DRIVER, "workload-api", "30s");
        scene.deploy(&Plan { manifest: OWN, driver: DRIVER, args }).await?;
        scene.wait_registered(DRIVER).await?;
        let pod = scene.run(&PodSpec::new("user", DRIVER, vec!["/bin/sleep", "2147483647"])).await?;
        let socket = clients::socket(scene, &pod)?.display().to_string();
        let id = format!("spiffe://example.org/ns/{}/sa/default", scene.name);

        let fetched = ask(scene, &socket, &["fetch", "x509"])?;
        ensure!(fetched["svids"][0]["spiffe_id"] == id, "{fetched}");
        let tokens = ask(scene, &socket, &["fetch", "jwt", "-audience", "vault"])?;
        let token = tokens[0]["svids"][0]["svid"].as_str().with_context(|| format!("no token in {tokens}"))?;
        let valid = ask(scene, &socket, &["validate", "jwt", "-audience", "vault", "-svid", token])?;
        ensure!(valid["spiffe_id"] == id, "{valid}");
        let other = ask(scene, &socket, &["validate", "jwt", "-audience", "other", "-svid", token]);
        ensure!(other.is_err(), "a token for vault is accepted elsewhere");

        let log = scene.folder.join("watch.log");
        let program = Tools::new(&scene.layout).program("spire-agent");
        let watch = Program::start(&program, ["api", "watch", "-socketPath", &socket], &log)?;
        eventually("a rotation", 2 * SOON, async || {
            let received = watch.log()?.matches("Received 1 svid").count();
            ensure!(received >= 2, "{received} updates: {}", watch.log()?);
            Ok(())
        })
        .await
    })
    .await;
}

fn ask(scene: &Scene, socket: &str, words: &[&str]) -> Result<Value> {
    let output = Command::new(Tools::new(&scene.layout).program("spire-agent"))
        .arg("api")
        .args(words)
        .args(["-socketPath", socket, "-output", "json"])
        .output()
        .context("cannot run spire-agent")?;
    let [said, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success(), "spire-agent api {words:?}: {said} {errors}");
    serde_json::from_str(&said).with_context(|| said)
}
