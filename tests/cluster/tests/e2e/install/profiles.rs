//! Each profile of the chart, from nothing to the example workload with its verified identity in a restricted namespace.
//!
//! This is the only assertion about time in these tests. The control plane runs and the images are loaded when it
//! begins.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use svid_csi_cluster::cert_manager::NAMESPACE;
use svid_csi_cluster::{images, objects, predecessor};

use super::example;
use super::footprint::ensure_small;
use super::release::{Release, with_release};
use crate::agent::{Agent, IDENTITY};
use crate::eventually::{SOON, eventually};
use crate::predecessors::{SPIFFE, only_spiffe};
use crate::scene::{Scene, play};
use crate::socket::sockets;
use crate::with_cert_manager::stage::{Stage, play_with};

/// From the start of `helm install` to a pod with its identity, on a machine that may be busy.
const MOST: Duration = Duration::from_secs(60);

#[tokio::test]
async fn standalone() {
    let _one = only_spiffe().await;
    play("e2e-standalone", async |scene: &Scene| {
        with_release(scene, SPIFFE, async |release: &Release<'_>| {
            let started = Instant::now();
            release.install("standalone", &json!({})).await?;
            example::run(scene, "standalone/workload.yaml", &identity(scene)).await?;
            print_figures("standalone", started.elapsed(), &release.wait_driver(images::TAG).await?)
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn spire() {
    let _one = only_spiffe().await;
    play("e2e-spire", async |scene: &Scene| {
        let _agent = Agent::start(scene, &sockets(scene).join("spire-agent.sock")).await?;
        with_release(scene, SPIFFE, async |release: &Release<'_>| {
            let started = Instant::now();
            release.install("spire", &json!({"agent": {"socketDir": sockets(scene)}})).await?;
            example::run(scene, "spire/workload.yaml", IDENTITY).await?;
            print_figures("spire", started.elapsed(), &release.wait_driver(images::TAG).await?)
        })
        .await
    })
    .await;
}

/// As in docs/start/cert-manager.md: the example's authority, and a manually created bundle.
#[tokio::test]
async fn cert_manager() {
    play_with("e2e-cert-manager", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let scene = stage.scene;
        with_release(scene, predecessor::DRIVER, async |release: &Release<'_>| {
            let started = Instant::now();
            install_with_issuer(stage, release, json!({})).await?;
            example::run(scene, "cert-manager/workload.yaml", &identity(scene)).await?;
            let taken = started.elapsed();
            release.wait_pods("approver", images::TAG).await?;
            print_figures("cert-manager", taken, &release.wait_driver(images::TAG).await?)
        })
        .await
    })
    .await;
}

/// Installs the profile `cert-manager` with the example's authority and those values.
pub async fn install_with_issuer(stage: &Stage<'_>, release: &Release<'_>, mut values: Value) -> Result<()> {
    stage.put(&example::read(stage.scene, "cert-manager/issuer.yaml")?).await?;
    let bundle = format!("configmap:{}/spiffe-bundle/ca.crt", release.home.name);
    values["trustBundle"] = json!(bundle);
    values["app"] = json!({"approver": {"autoApproveNonSPIFFE": true}});
    release.install("cert-manager", &values).await?;
    put_bundle(stage, &release.home).await
}

fn identity(scene: &Scene) -> String {
    format!("spiffe://cluster.local/ns/{}/sa/example", scene.name)
}

/// Copies the authority's certificate to the driver's trust bundle, once cert-manager has created it.
async fn put_bundle(stage: &Stage<'_>, home: &Scene) -> Result<()> {
    let (api_version, name) = ("v1", "spiffe-ca");
    let secret =
        json!({"apiVersion": api_version, "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}});
    let certificate = eventually("the authority's certificate", SOON, async || {
        let seen: Value = objects::get(&stage.scene.client, &secret).await?;
        Ok(seen["data"]["tls.crt"].as_str().context("the secret has none")?.to_owned())
    })
    .await?;
    // Without the authority's key. It is removed with the test, because cert-manager leaves the secret.
    stage.put(&[secret]).await?;
    let metadata = json!({"name": "spiffe-bundle", "namespace": home.name});
    let data = json!({"ca.crt": text(&certificate)?});
    stage.put(&[json!({"apiVersion": api_version, "kind": "ConfigMap", "metadata": metadata, "data": data})]).await
}

fn text(base64: &str) -> Result<String> {
    use base64::Engine as _;
    Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(base64)?)?)
}

/// Prints the figures directly, because the test harness captures the output of tests, and checks them.
fn print_figures(profile: &str, taken: Duration, driver: &Pod) -> Result<()> {
    let megabytes = ensure_small(driver)?;
    let (seconds, one) = (taken.as_secs_f32(), "the driver's pod has one container and");
    let line = format!("{profile}: a pod had its verified identity after {seconds:.1} s; {one} {megabytes:.1} MB\n");
    std::io::stdout().write_all(line.as_bytes())?;
    ensure!(taken < MOST, "{profile}: a pod had to wait {seconds:.1} s for its identity");
    Ok(())
}
