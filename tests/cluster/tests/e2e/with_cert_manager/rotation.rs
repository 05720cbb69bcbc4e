//! A new certificate authority replaces the old one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::issuers::SigningCa;
use svid_csi_cluster::{objects, predecessor};

use super::stage::{Stage, play_with};
use crate::eventually::{SOON, eventually};
use crate::files::ensure_verified;
use crate::pods::{PodSpec, TestPod};

const PODS: [&str; 3] = ["first", "second", "third"];

/// The origin of the driver's trust bundle.
#[derive(Clone, Copy)]
enum Origin {
    File,
    ConfigMap,
    ClusterTrustBundle,
}

impl Origin {
    async fn put(self, stage: &Stage<'_>, certificates: &[&str]) -> Result<String> {
        match self {
            Origin::File => Ok(format!("--source-ca-bundle={}", stage.write_bundle(certificates)?.display())),
            Origin::ConfigMap => {
                let name = &stage.scene.name;
                objects::apply(&stage.scene.client, &[config_map(name, &certificates.concat())]).await?;
                Ok(format!("--trust-bundle=configmap:{name}/bundle/ca.crt"))
            }
            Origin::ClusterTrustBundle => {
                let name = &stage.scene.name;
                stage.put(&[cluster_trust_bundle(stage, &certificates.concat())]).await?;
                Ok(format!("--trust-bundle=clustertrustbundle:{name}"))
            }
        }
    }
}

fn config_map(namespace: &str, pem: &str) -> Value {
    let metadata = json!({"name": "bundle", "namespace": namespace});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": pem}})
}

fn cluster_trust_bundle(stage: &Stage<'_>, pem: &str) -> Value {
    let version = if stage.scene.layout.kubernetes == "1.36" { "v1beta1" } else { "v1" };
    json!({
        "apiVersion": format!("certificates.k8s.io/{version}"),
        "kind": "ClusterTrustBundle",
        "metadata": {"name": stage.scene.name},
        "spec": {"trustBundle": pem},
    })
}

#[tokio::test]
async fn a_new_authority_reaches_every_pod_with_the_bundle_in_a_file() {
    play_with("e2e-rotated", Duration::from_secs(3600), async |stage: &Stage<'_>| rotate(stage, Origin::File).await)
        .await;
}

#[tokio::test]
async fn a_new_authority_reaches_every_pod_with_the_bundle_in_a_config_map() {
    play_with("e2e-rotated-map", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        rotate(stage, Origin::ConfigMap).await
    })
    .await;
}

#[tokio::test]
async fn a_new_authority_reaches_every_pod_with_the_bundle_in_a_cluster_trust_bundle() {
    play_with("e2e-rotated-ctb", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        rotate(stage, Origin::ClusterTrustBundle).await
    })
    .await;
}

async fn rotate(stage: &Stage<'_>, bundle: Origin) -> Result<()> {
    let (scene, old) = (stage.scene, stage.ca.certificate());
    stage.announce(None).await?;
    stage.put(&predecessor::requester(&scene.name, "default")).await?;
    let readable = [predecessor::rule("", "configmaps", &["get", "list", "watch"])];
    stage.put(&predecessor::role(&scene.name, "bundle", (&scene.name, &scene.name), &readable)).await?;
    let name = format!("{}-bundle", scene.name);
    let readable = [predecessor::rule("certificates.k8s.io", "clustertrustbundles", &["get", "list", "watch"])];
    stage.put(&predecessor::cluster_role(&name, (&scene.name, &scene.name), &readable)).await?;
    let flag = bundle.put(stage, &[old]).await?;
    let _approver = stage.approver(&[]).await?;
    let driver = stage.driver(&[&flag]).await?;
    let mut pods = Vec::new();
    for name in PODS {
        let pod = scene.run(&PodSpec::on_files(name, &stage.driver_name())).await?;
        ensure_verified(scene, &pod.verify_files().await?)?;
        pods.push(pod);
    }

    let new = SigningCa::create("the next")?;
    bundle.put(stage, &[old, new.certificate()]).await?;
    wait_bundles(&pods, 2).await.context("with both in the bundle")?;
    stage.put(&[new.secret(None, &scene.name)]).await?;
    let before = serials(&pods).await?;
    eventually("certificates of the new authority", SOON, async || {
        // cert-manager receives the new secret with a delay, and may sign with the old one until then.
        driver.renew(&["--all"]).await?;
        bundle.put(stage, &[new.certificate()]).await?;
        wait_bundles(&pods, 1).await?;
        let verified = serials(&pods).await;
        if verified.is_err() {
            bundle.put(stage, &[old, new.certificate()]).await?;
        }
        let now = verified?;
        ensure!(now.iter().zip(&before).all(|(now, before)| now != before), "not all certificates are new");
        Ok(())
    })
    .await?;
    for pod in &pods {
        ensure!(pod.restarts().await? == 0, "pod {} was restarted", pod.name);
    }
    Ok(())
}

/// Waits until the bundle of each pod has that many certificates.
async fn wait_bundles(pods: &[TestPod<'_>], count: usize) -> Result<()> {
    for pod in pods {
        eventually(&format!("the bundle of {}", pod.name), SOON, async || {
            let pem = pod.exec(&["cat", "/spiffe/ca.crt"]).await?;
            let seen = pem.matches("BEGIN CERTIFICATE").count();
            ensure!(seen == count, "it has {seen} certificates instead of {count}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The serial numbers of certificates, all of which verify.
async fn serials(pods: &[TestPod<'_>]) -> Result<Vec<Value>> {
    let mut serials = Vec::new();
    for pod in pods {
        serials.push(pod.verify_files().await?["serial"].clone());
    }
    Ok(serials)
}
