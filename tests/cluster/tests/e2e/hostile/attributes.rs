//! Authors of pods who write hostile attributes into their volumes.

use std::fs;

use anyhow::ensure;
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::end_all;
use super::node_state::{ensure_no_volumes, volumes};
use crate::files::{deploy, ensure_verified};
use crate::pods::PodSpec;
use crate::scene::{Scene, play};

/// Attributes that no volume may have, and the field that the error names. Those of core's tests are complete; these show the
/// way from the manifest through API server and kubelet to an event.
fn refused() -> Vec<(Value, &'static str)> {
    let long = "n".repeat(300);
    let huge = "x".repeat(100_000);
    vec![
        (json!({"svid-csi/file-cert": "../../ca/example.org/ca.key"}), "svid-csi/file-cert"),
        (json!({"svid-csi/file-key": "..data"}), "svid-csi/file-key"),
        (json!({"svid-csi/file-bundle": "/etc/passwd"}), "svid-csi/file-bundle"),
        (json!({"svid-csi/file-combined": "a\u{0}b"}), "svid-csi/file-combined"),
        (json!({"svid-csi/file-pkcs12": long}), "svid-csi/file-pkcs12"),
        (json!({"svid-csi/audience": huge}), "svid-csi/audience"),
        (json!({"svid-csi/fs-group": "-1"}), "svid-csi/fs-group"),
        (json!({"svid-csi/delivery": "workload-api/../files"}), "svid-csi/delivery"),
        (json!({"svid-csi/layout": "../pem"}), "svid-csi/layout"),
        (json!({"svid-csi/\u{202e}yek-elif": "x"}), "svid-csi/"),
        // The kubelet only sends tokens that the CSIDriver object requests, so these are from the author of the pod.
        (json!({"csi.storage.k8s.io/serviceAccount.tokens": "{\"\":{\"token\":\"a.b.c\"}}"}), "serviceAccount.tokens"),
    ]
}

#[tokio::test]
async fn hostile_attributes_are_refused_with_an_event_that_names_them() {
    play("e2e-hostile-attributes", async |scene: &Scene| {
        let driver = deploy(scene, "hostile-attributes.svid-csi", "1h").await?;
        let refused = refused();
        let names: Vec<_> = (0..refused.len()).map(|number| format!("refused-{number}")).collect();
        let mut pods = Vec::new();
        for (name, (attributes, _)) in names.iter().zip(&refused) {
            let mut spec = PodSpec::new(name, "hostile-attributes.svid-csi", vec!["/bin/sleep", "2147483647"]);
            spec.attributes = attributes.clone();
            pods.push(scene.create(&spec).await?);
        }
        let events = pods.iter().zip(&refused).map(async |(pod, (_, field))| {
            let message = pod.wait_event(field, |message| message.contains(field)).await?;
            ensure!(message.len() < 4_000, "the event has {} bytes", message.len());
            Ok(())
        });
        try_join_all(events).await?;
        ensure!(fs::read_dir(volumes(scene))?.next().is_none(), "a refused volume has a folder");
        ensure!(driver.restarts().await? == 0, "the driver was restarted");
        end_all(scene, &pods.iter().collect::<Vec<_>>()).await?;
        ensure_no_volumes(scene)
    })
    .await;
}

/// The kubelet writes the pod's own information over what a manifest claims.
#[tokio::test]
async fn forged_pod_information_changes_no_identity() {
    play("e2e-hostile-forged", async |scene: &Scene| {
        deploy(scene, "hostile-forged.svid-csi", "1h").await?;
        let mut spec = PodSpec::on_files("forger", "hostile-forged.svid-csi");
        spec.attributes = json!({
            "csi.storage.k8s.io/pod.name": "another",
            "csi.storage.k8s.io/pod.namespace": "kube-system",
            "csi.storage.k8s.io/pod.uid": "00000000-0000-0000-0000-000000000000",
            "csi.storage.k8s.io/serviceAccount.name": "admin",
            "csi.storage.k8s.io/ephemeral": "false",
        });
        let pod = scene.run(&spec).await?;
        ensure_verified(scene, &pod.verify_files().await?)?;
        end_all(scene, &[&pod]).await?;
        ensure_no_volumes(scene)
    })
    .await;
}
