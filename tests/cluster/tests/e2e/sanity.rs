//! The CSI project's own conformance tests, with the driver as a process on the host.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svid_csi_cluster::images;
use svid_csi_cluster::tools::Tools;

use crate::eventually::{SOON, eventually};
use crate::scene::{Scene, play};

/// These first need a volume from a Controller.
const NEED_A_CONTROLLER: &str =
    "should remove target path|should fail when volume does not exist on the specified path";
/// The specs of the Identity and Node services that apply to a driver without staging and expansion...
pub const COMMON: usize = 11;
/// ... and those that apply to a driver that reports the condition of its volumes.
const ABOUT_STATS: usize = 3;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn csi_sanity_passes_for_a_driver_of_sockets() {
    play("e2e-sanity-socket", async |scene: &Scene| {
        let sockets = scene.folder.join("agent/sockets");
        fs::create_dir_all(&sockets)?;
        let sockets = sockets.display().to_string();
        ensure_passes(
            scene,
            &["--profile", "csi.spiffe.io", "-workload-api-socket-dir", &sockets],
            COMMON + ABOUT_STATS,
        )
        .await
    })
    .await;
}

#[tokio::test]
async fn csi_sanity_passes_for_a_driver_of_files() {
    play("e2e-sanity-files", async |scene: &Scene| {
        let mut args = vec!["--source", "local-ca", "--delivery", "files", "--driver-name", "sanity.svid-csi"];
        args.extend(["--trust-domain", "example.org", "--certificate-request-duration", "1h"]);
        ensure_passes(scene, &args, COMMON).await
    })
    .await;
}

/// Runs the tests with a driver with these flags; that many specs must run, and pass.
pub async fn ensure_passes(scene: &Scene, args: &[&str], wanted: usize) -> Result<()> {
    let socket = scene.folder.join("csi.sock");
    let _driver = start_driver(scene, args, &socket).await?;
    let report = scene.folder.join("report.json");
    run_sanity(scene, &socket, &report)?;
    let specs = specs(&serde_json::from_slice(&fs::read(&report)?)?);
    let ran: Vec<_> = specs.iter().filter(|(_, state)| state != "skipped").collect();
    ensure!(ran.iter().all(|(_, state)| state == "passed"), "not all of these passed: {ran:#?}");
    ensure!(ran.len() == wanted, "{} passed where {wanted} should: {specs:#?}", ran.len());
    Ok(())
}

async fn start_driver(scene: &Scene, args: &[&str], socket: &Path) -> Result<Process> {
    let program = images::binary(&scene.layout);
    let log = File::create(scene.folder.join("driver.log"))?;
    let child = Command::new(&program)
        .arg("driver")
        .args(args)
        .args(["--node-id", "node1", "--metrics-address", "0", "--endpoint"])
        .arg(socket)
        .arg("--data-root")
        .arg(scene.folder.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut driver = Process(child);
    eventually("the driver to listen", SOON, async || {
        ensure!(driver.0.try_wait()?.is_none(), "it has stopped: see driver.log");
        ensure!(socket.exists(), "{} is missing", socket.display());
        Ok(())
    })
    .await?;
    Ok(driver)
}

/// The program also fails if a spec fails; the report names it.
fn run_sanity(scene: &Scene, socket: &Path, report: &Path) -> Result<()> {
    let program = Tools::new(&scene.layout).program("csi-sanity");
    let output = Command::new(&program)
        .arg(format!("--csi.endpoint=unix://{}", socket.display()))
        .arg(format!("--csi.mountdir={}", scene.folder.join("mount").display()))
        .arg(format!("--csi.stagingdir={}", scene.folder.join("staging").display()))
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .args(["--ginkgo.focus=Identity Service|Node Service", "--ginkgo.no-color"])
        .arg(format!("--ginkgo.skip={NEED_A_CONTROLLER}"))
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(report.exists(), "csi-sanity wrote no report:\n{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// Names and outcomes of the specs of the two services.
fn specs(report: &Value) -> Vec<(String, String)> {
    let mut specs = specs_in(report);
    specs.retain(|(name, _)| name.contains("Identity Service") || name.contains("Node Service"));
    specs
}

/// Names and outcomes of all specs in a report of Ginkgo.
pub fn specs_in(report: &Value) -> Vec<(String, String)> {
    let reports = report.as_array().into_iter().flatten();
    let specs = reports.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten());
    let named = specs.map(|spec| {
        let containers = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
        let names: Vec<_> = containers.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str).collect();
        (names.join(" / "), spec["State"].as_str().unwrap_or("lost").to_owned())
    });
    named.collect()
}
