//! The driver as a static pod, which the kubelet runs from a file.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use svid_csi_cluster::session::NODE;
use svid_csi_cluster::{files, node, objects};

use super::example;
use super::release::{Release, with_release};
use crate::eventually::eventually;
use crate::predecessors::{SPIFFE, only_spiffe};
use crate::scene::{Scene, play};

/// The kubelet looks for changed files every 20 seconds.
const NOTICED: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_static_pod_serves_pods_until_its_file_is_removed() {
    let _one = only_spiffe().await;
    play("e2e-static-pod", async |scene: &Scene| {
        with_release(scene, SPIFFE, async |release: &Release<'_>| {
            let values = json!({"staticPod": true, "localCA": {"publishRoots": false}});
            let text = release.template("standalone", &values).await?;
            let all: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
            let (pods, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|object| object["kind"] == "Pod");
            let [pod] = &pods[..] else { anyhow::bail!("the chart has {} pods", pods.len()) };
            objects::apply(&scene.client, &others).await?;
            let file = node::static_pods(&scene.layout).join("svid-csi.json");
            files::write(&file, pod.to_string())?;
            let name = format!("{}-{NODE}", pod["metadata"]["name"].as_str().context("a pod without a name")?);
            let served = serve(scene, release, &name).await;
            // In any case, as nothing else ends a static pod.
            fs::remove_file(&file)?;
            served?;
            eventually("the static pod to go", NOTICED, async || {
                ensure!(release.home.api::<Pod>().get_opt(&name).await?.is_none(), "it is still there");
                Ok(())
            })
            .await
        })
        .await
    })
    .await;
}

async fn serve(scene: &Scene, release: &Release<'_>, name: &str) -> Result<()> {
    eventually("the static pod to be ready", NOTICED, async || {
        let pod = release.home.api::<Pod>().get(name).await?;
        let owner = pod.owner_references().first().map(|owner| owner.kind.clone());
        ensure!(owner.as_deref() == Some("Node"), "{name} belongs to {owner:?}");
        let statuses = pod.status.unwrap_or_default().container_statuses.unwrap_or_default();
        ensure!(!statuses.is_empty() && statuses.iter().all(|one| one.ready), "{statuses:?}");
        Ok(())
    })
    .await?;
    scene.wait_registered(SPIFFE).await?;
    let identity = format!("spiffe://cluster.local/ns/{}/sa/example", scene.name);
    example::run(scene, "standalone/workload.yaml", &identity).await.map(drop)?;
    // While their driver runs.
    scene.end_users().await
}
