//! Drivers that create requests with their own service account, and only for pods of their own node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use svid_csi_cluster::requests::{self, wait_condition};
use svid_csi_cluster::spiffe::Approver;
use svid_csi_cluster::{accounts, images, predecessor};
use svid_csi_core::pod::PodRef;

use super::stage::{Stage, play_with};
use crate::eventually::{SOON, eventually};
use crate::files::ensure_verified;
use crate::pods::{PodSpec, TestPod};
use crate::scene::DRIVER_LABEL;

const ELSEWHERE: &str = "e2e-elsewhere";

/// A node without a kubelet, to which no pod is scheduled.
fn elsewhere() -> Value {
    let taint = json!({"key": "svid-csi.test/nobody", "effect": "NoSchedule"});
    let spec = json!({"unschedulable": true, "taints": [taint]});
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": ELSEWHERE}, "spec": spec})
}

/// A pod that was assigned to a node by the test.
struct Stray {
    account: String,
    node: &'static str,
    driver: Option<String>,
}

impl Stray {
    async fn create(&self, stage: &Stage<'_>, name: &str) -> Result<PodRef> {
        let mut spec = json!({
            "nodeName": self.node,
            "serviceAccountName": self.account,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": images::BUSYBOX, "imagePullPolicy": "Never"}],
        });
        if let Some(driver) = &self.driver {
            spec["volumes"] = json!([{"name": "identity", "csi": {"driver": driver, "readOnly": true}}]);
        }
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
        let uid = stage.scene.api::<Pod>().create(&PostParams::default(), &pod).await?.uid();
        let uid = uid.context("a created pod has a UID")?;
        let (namespace, service_account) = (stage.scene.name.clone(), self.account.clone());
        Ok(PodRef { namespace, name: name.to_owned(), uid, service_account })
    }
}

/// A pod in place of the driver's: with its service account and on this node, but without a driver in it.
async fn driver_pod<'a>(stage: &Stage<'a>) -> Result<TestPod<'a>> {
    let mut spec = PodSpec::idle("driver");
    spec.account = &stage.scene.name;
    spec.labels = json!({DRIVER_LABEL: "true"});
    stage.scene.run(&spec).await
}

async fn set(stage: &Stage<'_>) -> Result<String> {
    let scene = stage.scene;
    stage.announce(None).await?;
    let approver = format!("{}-approver", scene.name);
    let rules = [predecessor::rule("", "pods", &["get"])];
    stage.put(&predecessor::cluster_role(&format!("{}-pods", scene.name), (&scene.name, &approver), &rules)).await?;
    Ok(format!("--driver-service-account=system:serviceaccount:{0}:{0}", scene.name))
}

#[tokio::test]
async fn pods_need_no_permissions_if_the_driver_makes_requests_for_its_own_node() {
    play_with("e2e-node-bound", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let account = set(stage).await?;
        let _approver = stage.approver(&["--request-mode=node-bound", &account]).await?;
        let own = driver_pod(stage).await?;
        let bundle = format!("--source-ca-bundle={}", stage.write_bundle(&[stage.ca.certificate()])?.display());
        let bound = accounts::Pod { name: &own.name, uid: &own.uid };
        stage.driver_in(Some(bound), &["--request-mode=node-bound", &bundle]).await?;
        let pod = stage.scene.run(&PodSpec::on_files("user", &stage.driver_name())).await?;
        ensure_verified(stage.scene, &pod.verify_files().await?)?;
        let made = stage.requests_of(&pod).await?;
        let user = format!("system:serviceaccount:{0}:{0}", stage.scene.name);
        ensure!(made.iter().all(|request| request.spec.username == user), "not all were made by {user}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_stolen_driver_token_is_useless_for_other_nodes() {
    play_with("e2e-stolen", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let (scene, driver) = (stage.scene, stage.driver_name());
        let account = set(stage).await?;
        stage.put(&[elsewhere()]).await?;
        let approver = stage.approver(&["--request-mode=node-bound", &account]).await?;
        let own = driver_pod(stage).await?;
        let client = stage.client_of(&own, &scene.name).await?;

        let user = |node, driver: Option<&str>| Stray {
            account: "default".to_owned(),
            node,
            driver: driver.map(str::to_owned),
        };
        let here = user("node1", Some(&driver)).create(stage, "here").await?;
        ensure_signed(stage, &client, &here).await.context("a pod of this node")?;
        let there = user(ELSEWHERE, Some(&driver)).create(stage, "there").await?;
        ensure_denied(stage, &client, &there, "is on node").await?;
        let without = user("node1", None).create(stage, "without").await?;
        ensure_denied(stage, &client, &without, "has no volume of the driver").await?;
        let other = PodRef { service_account: "other".to_owned(), ..here.clone() };
        ensure_denied(stage, &client, &other, "runs as").await?;
        let missing = |index| PodRef { name: format!("missing-{index}"), ..here.clone() };
        ensure_logged(stage, &client, &approver, missing, "does not exist").await?;
        let replaced = |index| PodRef { uid: format!("00000000-0000-4000-8000-{index:012}"), ..here.clone() };
        ensure_logged(stage, &client, &approver, replaced, "was replaced by another pod").await?;

        let token = accounts::token(&scene.client, &scene.name, &scene.name, None).await?;
        let unbound = accounts::bearer(&scene.layout, &token).await?;
        ensure_denied(stage, &unbound, &here, "token must be bound to its pod").await?;
        ensure_denied(stage, &scene.client, &here, "must be created by the driver").await?;
        let away = Stray { account: scene.name.clone(), node: ELSEWHERE, driver: None };
        let away = away.create(stage, "driver-away").await?;
        let bound = accounts::Pod { name: &away.name, uid: &away.uid };
        let token = accounts::token(&scene.client, &scene.name, &scene.name, Some(bound)).await?;
        let away = accounts::bearer(&scene.layout, &token).await?;
        ensure_denied(stage, &away, &here, "is on node").await
    })
    .await;
}

async fn ensure_signed(stage: &Stage<'_>, client: &Client, pod: &PodRef) -> Result<()> {
    let name = requests::create(client, &stage.terms.request(pod)?).await?;
    wait_condition(&stage.requests(), &name, "Ready").await.map(drop)
}

/// Kubernetes deletes a request whose owner does not exist, possibly before it is judged or its conditions are read. So
/// requests are created until one was judged in time, each for another pod, because absent ones are remembered.
async fn ensure_logged(
    stage: &Stage<'_>,
    client: &Client,
    approver: &Approver,
    pod: impl Fn(u32) -> PodRef,
    words: &str,
) -> Result<()> {
    let mut index = 0;
    eventually(&format!("a denial that says {words:?}"), SOON, async || {
        index += 1;
        requests::create(client, &stage.terms.request(&pod(index))?).await?;
        let log = approver.log()?;
        let said = log.lines().any(|line| line.contains("decision=\"denied\"") && line.contains(words));
        ensure!(said, "the log says nothing of it");
        Ok(())
    })
    .await
}

async fn ensure_denied(stage: &Stage<'_>, client: &Client, pod: &PodRef, words: &str) -> Result<()> {
    let name = requests::create(client, &stage.terms.request(pod)?).await?;
    let denied = wait_condition(&stage.requests(), &name, "Denied").await.with_context(|| words.to_owned())?;
    ensure!(denied.message.contains(words), "where it should say {words:?} it says {:?}", denied.message);
    Ok(())
}
