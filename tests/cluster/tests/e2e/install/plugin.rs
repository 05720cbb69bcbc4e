//! The kubectl plugin, through the cluster's own kubectl, with the driver as the chart deploys it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::peers;
use svid_csi_cluster::tools::Tools;

use super::example;
use super::release::{Release, with_release};
use crate::eventually::{SOON, eventually};
use crate::predecessors::{SPIFFE, only_spiffe};
use crate::scene::{Scene, play};

#[tokio::test]
async fn the_plugin_asks_the_driver_of_a_pods_node() {
    let _one = only_spiffe().await;
    play("e2e-kubectl-svid", async |scene: &Scene| {
        with_release(scene, SPIFFE, async |release: &Release<'_>| {
            release.install("standalone", &json!({})).await?;
            let identity = format!("spiffe://cluster.local/ns/{}/sa/example", scene.name);
            let pod = example::run(scene, "standalone/workload.yaml", &identity).await?;
            let home = format!("--driver-namespace={}", release.home.name);
            let place: [&str; 3] = [&home, "-n", &scene.name];
            let svid = async |words: &[&str]| run(scene, &[words, &place].concat()).await;

            let (code, text) = svid(&["status", &pod.name]).await?;
            ensure!(code == 0 && text.starts_with("nodes: 1 asked, 1 answered\nvolumes: 1 (1 ok)\n"), "{code}: {text}");
            let (code, text) = svid(&["doctor", &pod.name]).await?;
            let is_whole = text.contains(": every step is done\n") || text.contains(": no step fails, but ");
            ensure!(code < 2 && is_whole, "{code}: {text}");
            let (code, text) = svid(&["identity", &pod.name]).await?;
            ensure!(code == 0 && text.contains(&format!("SPIFFE ID: {identity}\n")), "{code}: {text}");

            let serial = async || {
                let (code, text) = svid(&["identity", &pod.name, "--json"]).await?;
                let answer: Value = serde_json::from_str(&text).with_context(|| format!("{code}: {text}"))?;
                Ok::<_, anyhow::Error>(answer["volumes"][0]["delivered"]["chain"][0]["serial"].clone())
            };
            let before = serial().await?;
            let (code, text) = svid(&["renew", &pod.name]).await?;
            ensure!(code == 0 && text == "1 volume is being renewed\n", "{code}: {text}");
            eventually("a renewed certificate", SOON, async || {
                ensure!(serial().await? != before, "it is still {before}");
                Ok(())
            })
            .await
        })
        .await
    })
    .await;
}

/// Runs `kubectl svid`, and returns its exit code and output.
async fn run(scene: &Scene, words: &[&str]) -> Result<(i32, String)> {
    let plugin = peers::program(&scene.layout, peers::PLUGIN);
    let mut path = plugin.parent().context("a program has a folder")?.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(Tools::new(&scene.layout).program("kubectl"));
    command.arg("svid").args(words).arg("--kubeconfig").arg(scene.layout.kubeconfig()).env("PATH", path);
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("cannot run kubectl")?;
    let [text, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let code = output.status.code().context("kubectl was killed")?;
    ensure!(errors.is_empty(), "kubectl svid {words:?}: {code}: {errors}");
    Ok((code, text))
}
