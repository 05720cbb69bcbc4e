//! A release of csi-driver-spiffe's chart is upgraded to ours, with its values.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use svid_csi_cluster::issuers::SigningCa;
use svid_csi_cluster::predecessor::{DRIVER, RELEASE};
use svid_csi_cluster::tools::Tools;
use svid_csi_cluster::{images, predecessor};

use crate::eventually::{SOON, eventually};
use crate::mountpoints::{ensure_gone, ensure_single};
use crate::pods::{PodSpec, TestPod};
use crate::scene::{DRIVER_LABEL, OWNER, Scene};
use crate::with_cert_manager::stage::{Stage, play_with};

const ACCOUNT: &str = "app";
/// The kubelet republishes each volume every one to two minutes.
const REPUBLISHED: Duration = Duration::from_secs(240);

#[tokio::test]
async fn running_pods_are_renewed_again_after_an_upgrade_of_the_release() {
    play_with("e2e-from-cert-manager", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let scene = stage.scene;
        prepare(stage).await?;
        install_predecessor(scene).await?;
        // It reads its key only as a member of the group.
        let pod = PodSpec {
            account: ACCOUNT,
            attributes: json!({"spiffe.csi.cert-manager.io/fs-group": "2000"}),
            security: json!({"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "fsGroup": 2000}),
            ..PodSpec::on_files("app", DRIVER)
        };
        let pod = scene.run(&pod).await?;
        let old = pod.wait_line("its old certificate", 0, |line| line["chain_ok"] == true).await?;

        upgrade(scene).await?;
        let adopted = wait_other(&pod, &old, "the certificate of the new driver").await?;
        ensure_identity(scene, &adopted)?;
        ensure_single(scene, &pod)?;

        restart_driver(scene).await?;
        renew(scene).await?;
        let renewed = wait_other(&pod, &adopted, "a certificate after a restart of the new driver").await?;
        ensure_identity(scene, &renewed)?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");

        roll_back(scene).await?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        pod.delete().await?;
        pod.wait_gone().await?;
        ensure_gone(scene, &pod)
    })
    .await;
}

/// Objects that an administrator of csi-driver-spiffe has beside its release: an issuer, a bundle, and a role for the
/// pod.
async fn prepare(stage: &Stage<'_>) -> Result<()> {
    let scene = stage.scene;
    let bundle = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "spiffe-bundle", "namespace": scene.name},
        "data": {"ca.crt": stage.ca.certificate()},
    });
    stage.put(&[bundle]).await?;
    stage.put(&predecessor::requester(&scene.name, ACCOUNT)).await?;
    let old = SigningCa::create("of before")?;
    let [certificate, key] = old.svid(&identity(scene))?;
    let folder = scene.folder.join("old-identity");
    fs::create_dir_all(&folder)?;
    for (name, contents) in [("tls.crt", certificate.as_str()), ("tls.key", &key), ("ca.crt", old.certificate())] {
        svid_csi_cluster::files::write(&folder.join(name), contents)?;
    }
    Ok(())
}

fn identity(scene: &Scene) -> String {
    format!("spiffe://example.org/ns/{}/sa/{ACCOUNT}", scene.name)
}

fn ensure_identity(scene: &Scene, line: &Value) -> Result<()> {
    ensure!(line["spiffe_id"] == identity(scene).as_str(), "{line} is not for {}", identity(scene));
    ensure!(line["key_matches"] == true && line["chain_ok"] == true, "{line} does not verify");
    Ok(())
}

async fn install_predecessor(scene: &Scene) -> Result<()> {
    let values = json!({
        "image": images::WORKLOAD,
        "kubelet": scene.kubelet(),
        "folder": scene.folder,
        "commonLabels": labels(scene),
    });
    let chart = scene.layout.sources().join("manifests/csi-driver-spiffe-release");
    helm(scene, &["install", RELEASE, &chart.display().to_string()], Some(&values)).await?;
    let socket = scene.kubelet().join("plugins").join(RELEASE).join("csi.sock");
    scene.register(DRIVER, &socket).await
}

/// With the former values, and the images and folders of this cluster.
async fn upgrade(scene: &Scene) -> Result<()> {
    let bundles = "/var/run/secrets/spiffe-bundle";
    let values = json!({
        "driverImage": image(images::CSI_DRIVER_SPIFFE),
        "approverImage": image(images::APPROVER),
        "commonLabels": labels(scene),
        "kubeletDir": scene.kubelet(),
        "app": {
            "trustDomain": "example.org",
            "issuer": {"name": scene.name, "kind": "ClusterIssuer", "group": "cert-manager.io"},
            "driver": {
                "csiDataDir": scene.folder.join("csi-data"),
                "sourceCABundle": format!("{bundles}/ca.crt"),
                "volumes": [{"name": "bundle", "configMap": {"name": "spiffe-bundle"}}],
                "volumeMounts": [{"name": "bundle", "mountPath": bundles, "readOnly": true}],
            },
            "approver": {"signerName": format!("clusterissuers.cert-manager.io/{}", scene.name)},
        },
    });
    scene.withdraw_registrars();
    let chart = scene.layout.repo.join("deploy/chart");
    helm(scene, &["upgrade", RELEASE, &chart.display().to_string()], Some(&values)).await?;
    wait_drivers(scene, images::CSI_DRIVER_SPIFFE).await
}

/// The label for the cleanup of objects outside the namespace.
fn labels(scene: &Scene) -> Value {
    json!({DRIVER_LABEL: "true", OWNER: scene.name})
}

fn image(reference: &str) -> Value {
    let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, ""));
    json!({"repository": repository, "tag": tag, "pullPolicy": "Never"})
}

async fn roll_back(scene: &Scene) -> Result<()> {
    helm(scene, &["rollback", RELEASE, "1"], None).await?;
    wait_drivers(scene, images::WORKLOAD).await?;
    let socket = scene.kubelet().join("plugins").join(RELEASE).join("csi.sock");
    scene.register(DRIVER, &socket).await
}

/// Runs Helm in the scene's namespace.
async fn helm(scene: &Scene, arguments: &[&str], values: Option<&Value>) -> Result<()> {
    let mut command = std::process::Command::new(Tools::new(&scene.layout).program("helm"));
    command.args(arguments).args(["--namespace", &scene.name, "--kubeconfig"]).arg(scene.layout.kubeconfig());
    if let Some(values) = values {
        let file = scene.folder.join("values.json");
        fs::write(&file, values.to_string())?;
        command.arg("--values").arg(file);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context("cannot run helm")?;
    ensure!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Waits until the one pod of the DaemonSet runs that image and is ready.
async fn wait_drivers(scene: &Scene, image: &str) -> Result<()> {
    eventually(&format!("a driver pod with {image}"), SOON, async || {
        let pod = driver_pod(scene).await?;
        let statuses = pod.status.unwrap_or_default().container_statuses.unwrap_or_default();
        ensure!(statuses.iter().any(|one| one.image.ends_with(image) && one.ready), "{statuses:?}");
        Ok(())
    })
    .await
}

async fn driver_pod(scene: &Scene) -> Result<Pod> {
    let own = ListParams::default().labels(&format!("app={RELEASE}"));
    let mut pods = scene.api::<Pod>().list(&own).await?.items;
    ensure!(pods.len() == 1, "there are {} driver pods", pods.len());
    pods.pop().context("there is none")
}

async fn restart_driver(scene: &Scene) -> Result<()> {
    let old = driver_pod(scene).await?;
    scene.api::<Pod>().delete(&old.name_any(), &DeleteParams::default()).await?;
    eventually("the next driver pod", SOON, async || {
        ensure!(driver_pod(scene).await?.uid() != old.uid(), "the old one is still there");
        Ok(())
    })
    .await?;
    wait_drivers(scene, images::CSI_DRIVER_SPIFFE).await
}

/// Like an administrator: with the command in the driver's own image.
async fn renew(scene: &Scene) -> Result<()> {
    let driver = driver_pod(scene).await?;
    let driver = scene.known(&driver.name_any(), &driver.uid().context("a pod has a UID")?);
    driver.exec(&["/bin/svid-csi", "renew", "--all", "--data-root", "/data"]).await.map(drop)
}

/// Waits for a certificate other than `last`. The pod's tokens arrive with the kubelet's next republish.
async fn wait_other(pod: &TestPod<'_>, last: &Value, what: &str) -> Result<Value> {
    eventually(&format!("pod {} to print {what}", pod.name), REPUBLISHED, async || {
        let line = pod.lines().await?.pop().context("it has printed nothing")?;
        ensure!(line["serial"] != last["serial"], "its last line is {line}");
        Ok(line)
    })
    .await
}
