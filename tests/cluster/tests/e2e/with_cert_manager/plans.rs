//! One driver with several issuers and both deliveries: each pod selects one of the plans that the administrator
//! allows.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::predecessor;

use super::stage::{Stage, play_with};
use crate::pods::PodSpec;
use crate::workload_api::{SOCKET, wait_update};

const FILES: [&str; 2] = ["--files", "/spiffe"];
/// Names of pods, and the plans they request.
const PLANS: [(&str, &str, &str); 4] = [
    ("issued-files", "cert-manager", "files"),
    ("issued-socket", "cert-manager", "workload-api"),
    ("minted-files", "local-ca", "files"),
    ("minted-socket", "local-ca", "workload-api"),
];

fn spec<'a>(stage_driver: &'a str, (name, source, delivery): (&'a str, &str, &str)) -> PodSpec<'a> {
    let what = if delivery == "files" { FILES } else { SOCKET };
    let attributes = json!({"svid-csi/source": source, "svid-csi/delivery": delivery});
    PodSpec { attributes, ..PodSpec::watching(name, stage_driver, what) }
}

#[tokio::test]
async fn every_source_works_with_every_delivery() {
    play_with("e2e-plans", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let scene = stage.scene;
        stage.announce(None).await?;
        stage.put(&predecessor::requester(&scene.name, "default")).await?;
        let bundle = format!("--source-ca-bundle={}", stage.write_bundle(&[stage.ca.certificate()])?.display());
        let allowed = PLANS.map(|(_, source, delivery)| format!("--allow-plan={source}:{delivery}"));
        let flags: Vec<&str> = allowed.iter().chain([&bundle]).map(String::as_str).collect();
        let _approver = stage.approver(&[]).await?;
        let (driver, name) = (stage.driver(&flags).await?, stage.driver_name());
        let mut pods = Vec::new();
        for plan in PLANS {
            let pod = scene.run(&spec(&name, plan)).await?;
            let update = wait_update(scene, &pod, 0, &Value::Null).await.with_context(|| format!("{plan:?}"))?;
            ensure!(update["svids"][0]["bundle"] == 1, "{plan:?}: {update}");
            pods.push((pod, update));
        }
        driver.renew(&["--all"]).await?;
        for (pod, update) in &pods {
            wait_update(scene, pod, 1, update).await?;
            ensure!(pod.restarts().await? == 0, "{} was restarted", pod.name);
        }

        let refused = scene.create(&spec(&name, ("refused", "broker", "workload-api"))).await?;
        refused.wait_event("its plan", |message| message.contains("broker:workload-api")).await.map(drop)
    })
    .await;
}
