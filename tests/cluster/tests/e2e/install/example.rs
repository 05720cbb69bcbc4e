//! The example workloads of this repository, applied like users do, except for the image and the namespace.

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use svid_csi_cluster::{images, objects};

use crate::eventually::{SOON, eventually};
use crate::pods::TestPod;
use crate::scene::Scene;

/// The objects in a file below `deploy/examples`.
pub fn read(scene: &Scene, path: &str) -> Result<Vec<Value>> {
    let path = scene.layout.repo.join("deploy/examples").join(path);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_multiple(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// Applies an example workload in a restricted namespace, and waits until it reports that identity.
pub async fn run<'a>(scene: &'a Scene, path: &str, identity: &str) -> Result<TestPod<'a>> {
    let mut all = read(scene, path)?;
    // The example's own namespace also has this level.
    restrict(scene).await?;
    all.retain(|object| object["kind"] != "Namespace");
    for object in &mut all {
        object["metadata"]["namespace"] = json!(scene.name);
        if object["kind"] == "Deployment" {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(images::DRIVER);
        }
    }
    objects::apply(&scene.client, &all).await?;
    let own = ListParams::default().labels("app=example");
    let verified = format!(": {identity} serial ");
    eventually("the example to have its identity", SOON, async || {
        let pod = scene.api::<Pod>().list(&own).await?.items.pop().context("it has no pod")?;
        let pod = scene.known(&pod.name_any(), &pod.uid().context("a pod has a UID")?);
        // `svid-csi watch` reports only verified identities.
        let said = pod.log().await?;
        ensure!(said.contains(&verified), "{} says {said:?}", pod.name);
        Ok(pod)
    })
    .await
}

/// Lets Pod Security refuse pods that could harm the node, and waits until it does.
async fn restrict(scene: &Scene) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    let change = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces.patch(&scene.name, &PatchParams::default(), &Patch::Merge(change)).await?;
    let container = json!({"name": "main", "image": images::BUSYBOX});
    let careless = json!({"metadata": {"name": "careless"}, "spec": {"containers": [container]}});
    let careless: Pod = serde_json::from_value(careless)?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    eventually("a careless pod to be refused", SOON, async || {
        let answer = scene.api().create(&dry, &careless).await;
        let refused =
            answer.as_ref().is_err_and(|error| error.to_string().contains("violates PodSecurity \"restricted"));
        ensure!(refused, "the answer is {answer:?}");
        Ok(())
    })
    .await
}
