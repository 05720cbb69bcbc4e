//! Kubernetes' own specs for storage drivers, on drivers with the names of both predecessors. Their pods leave `readOnly: true` out
//! of the volume, and have the default service accounts of namespaces that the specs create.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::images;
use svid_csi_cluster::predecessor;
use svid_csi_cluster::tools::Tools;

use crate::agent::Agent;
use crate::install::profiles::install_with_issuer;
use crate::install::release::{Release, with_release};
use crate::predecessors::{SPIFFE, only_spiffe};
use crate::sanity::specs_in;
use crate::scene::{Scene, play};
use crate::socket::{deploy, sockets};
use crate::with_cert_manager::stage::{Stage, play_with};

/// What the names of all specs for inline volumes of a CSI driver contain.
const INLINE: &str = "CSI Ephemeral-volume";
/// An identity cannot be written. The spec only looks for `rw` among the options of the mount, which runc 1.2 and later set for
/// volumes without `readOnly: true`, so passing it would prove nothing.
const READ_WRITE: &str = "should create read/write inline ephemeral volume";
/// The specs that remain. All others are about claims, which the driver does not serve.
const PASS: [&str; 3] = [
    "should create read-only inline ephemeral volume",
    "should support multiple inline ephemeral volumes",
    "should support two pods which have the same volume definition",
];

#[tokio::test]
#[ignore = "needs Kubernetes' storage suite: just foreign"]
async fn specs_of_kubernetes_pass_on_csi_spiffe_io() {
    let _one = only_spiffe().await;
    play("e2e-suite-spiffe", async |scene: &Scene| {
        let _agent = Agent::start(scene, &sockets(scene).join("agent.sock")).await?;
        deploy(scene, SPIFFE, &["--allow-missing-read-only"]).await?;
        ensure_specs_pass(scene, SPIFFE).await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs Kubernetes' storage suite: just foreign"]
async fn specs_of_kubernetes_pass_on_spiffe_csi_cert_manager_io() {
    play_with("e2e-suite-cert-manager", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        with_release(stage.scene, predecessor::DRIVER, async |release: &Release<'_>| {
            install_with_issuer(stage, release, json!({"allowMissingReadOnly": true})).await?;
            release.wait_pods("approver", images::TAG).await?;
            stage.scene.wait_registered(predecessor::DRIVER).await?;
            ensure_specs_pass(stage.scene, predecessor::DRIVER).await
        })
        .await
    })
    .await;
}

async fn ensure_specs_pass(scene: &Scene, driver: &str) -> Result<()> {
    let tools = Tools::new(&scene.layout);
    images::load_for_specs(&scene.layout, &tools)?;
    let [definition, report] = ["driver.json", "report.json"].map(|name| scene.folder.join(name));
    fs::write(&definition, definition_of(driver).to_string())?;
    let mut suite = Command::new(tools.program("storage-suite"));
    suite
        .arg(format!("--kubeconfig={}", scene.layout.kubeconfig().display()))
        .arg(format!("--storage.testdriver={}", definition.display()))
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .args(["--provider=local", "--ginkgo.no-color"])
        .args([format!("--ginkgo.focus={INLINE}"), format!("--ginkgo.skip={READ_WRITE}")]);
    let output = tokio::task::spawn_blocking(move || suite.output()).await?.context("cannot run storage-suite")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure_passed(&report).with_context(|| text)
}

/// Every pod reads the same thing, so that the specs do not write to it.
fn definition_of(driver: &str) -> Value {
    let volume = json!({"Attributes": {}, "Shared": true, "ReadOnly": false});
    json!({"DriverInfo": {"Name": driver, "Capabilities": {}}, "InlineVolumes": [volume]})
}

fn ensure_passed(report: &Path) -> Result<()> {
    let report = serde_json::from_slice(&fs::read(report).context("there is no report")?)?;
    let ran = specs_in(&report).into_iter().filter(|(_, state)| state != "skipped");
    let mut ran: Vec<_> = ran.filter(|(name, _)| name.contains(INLINE)).collect();
    ran.sort();
    ensure!(ran.iter().all(|(_, state)| state == "passed"), "not all of these passed: {ran:#?}");
    let names: Vec<_> = ran.iter().filter_map(|(name, _)| name.rsplit(" / ").next()).collect();
    ensure!(names == PASS, "these passed: {names:#?}");
    Ok(())
}
