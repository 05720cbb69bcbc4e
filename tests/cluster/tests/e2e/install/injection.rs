//! Pods that get their volume by a policy, and pods that may not have it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use svid_csi_cluster::images::{self, TAG};

use super::release::{Release, with_release};
use super::upgrade::standalone;
use crate::eventually::{SOON, eventually};
use crate::scene::{Scene, play};

const LABEL: &str = "svid-csi.test/identities";

#[tokio::test]
async fn pods_get_their_volume_by_a_label_if_their_namespace_may() {
    play("e2e-injected", async |scene: &Scene| with_release(scene, "injected.svid-csi", inject).await).await;
}

async fn inject(release: &Release<'_>) -> Result<()> {
    let scene = release.users;
    let mut values = standalone(release.driver);
    values["delivery"] = json!("workload-api");
    values["injection"] = json!({"enabled": true, "key": "svid-csi.test/inject"});
    values["usage"] = json!({"enabled": true, "namespaceLabels": {LABEL: scene.name}, "attributes": ["svid-csi/hint"]});
    release.install("standalone", &values).await?;
    release.wait_driver(TAG).await?;

    let refused = "only for namespaces with the label";
    eventually("pods to be refused", SOON, async || ensure_refused(scene, &asking(scene), refused).await).await?;
    label(scene).await?;
    let kept = eventually("the volume to be added", SOON, async || {
        let pod = dry_run(scene, &asking(scene)).await?;
        ensure!(volumes(&pod, release.driver) == 1, "it has no volume of the driver");
        Ok(pod)
    })
    .await?;
    // A pod that has the volume already is left as it is.
    let mut complete = asking(scene);
    complete["spec"] = kept["spec"].clone();
    let again = dry_run(scene, &complete).await?;
    ensure!(again["spec"] == kept["spec"], "{again} was {kept}");
    let own = kept["spec"]["containers"][1]["env"][0]["value"].as_str();
    ensure!(own == Some("unix:///mine"), "a variable of the pod was replaced: {own:?}");
    let mut wrong = asking(scene);
    let volume =
        json!({"driver": release.driver, "readOnly": true, "volumeAttributes": {"svid-csi/delivery": "files"}});
    wrong["spec"]["volumes"] = json!([{"name": "other", "csi": volume}]);
    ensure_refused(scene, &wrong, "may have these attributes only: svid-csi/hint").await?;

    let pods: Api<Pod> = scene.api();
    let mut alone = asking(scene);
    alone["spec"]["containers"].as_array_mut().context("containers")?.truncate(1);
    let created = pods.create(&PostParams::default(), &serde_json::from_value(alone)?).await?;
    let pod = scene.known(&created.name_any(), &created.uid().context("a created pod has a UID")?);
    pod.wait_running().await?;
    // It finds its socket by the variable.
    let seen = pod.exec(&["/bin/svid-csi", "watch", "--once", "--json"]).await?;
    ensure!(seen.contains(&format!("/ns/{}/sa/default", scene.name)), "{seen}");
    Ok(())
}

/// A pod that asks for its volume and mentions it nowhere else.
fn asking(scene: &Scene) -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": images::DRIVER, "imagePullPolicy": "Never",
            "command": ["/bin/svid-csi", "watch", "--json"],
        })
    };
    let mut second = container("second");
    second["env"] = json!([{"name": "SPIFFE_ENDPOINT_SOCKET", "value": "unix:///mine"}]);
    second["command"] = json!(["/bin/svid-csi", "watch", "--json", "--socket", "/spiffe-workload-api/agent.sock"]);
    json!({
        "metadata": {
            "name": "asking", "namespace": scene.name, "annotations": {"svid-csi.test/inject": "true"},
        },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{
                "name": "first", "image": images::DRIVER, "imagePullPolicy": "Never",
                "command": ["/bin/svid-csi", "watch", "--once"],
            }],
            "containers": [container("main"), second],
        },
    })
}

async fn dry_run(scene: &Scene, pod: &Value) -> Result<Value> {
    let only = PostParams { dry_run: true, ..PostParams::default() };
    Ok(serde_json::to_value(scene.api::<Pod>().create(&only, &serde_json::from_value(pod.clone())?).await?)?)
}

async fn ensure_refused(scene: &Scene, pod: &Value, why: &str) -> Result<()> {
    let refused = dry_run(scene, pod).await.err().map(|error| format!("{error:#}")).context("it is accepted")?;
    ensure!(refused.contains(why), "{refused}");
    Ok(())
}

fn volumes(pod: &Value, driver: &str) -> usize {
    let all = pod["spec"]["volumes"].as_array().into_iter().flatten();
    all.filter(|volume| volume["csi"]["driver"] == driver).count()
}

async fn label(scene: &Scene) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    let change = json!({"metadata": {"labels": {LABEL: scene.name}}});
    namespaces.patch(&scene.name, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(())
}
