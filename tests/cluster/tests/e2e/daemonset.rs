//! Drivers as DaemonSets: installing, replacing and removing them.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode};
use kube::ResourceExt;
use kube::api::PostParams;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use svid_csi_cluster::session::NODE;
use svid_csi_cluster::{images, process};

use crate::eventually::{SOON, eventually};
use crate::scene::{DRIVER_LABEL, OWNER, Scene};

/// One container that serves everything and registers itself.
pub const OWN: &str = include_str!("../../manifests/driver.yaml");

/// The parameters of a DaemonSet's manifest.
pub struct Plan<'a> {
    pub manifest: &'a str,
    /// The driver's name.
    pub driver: &'a str,
    /// The arguments of the driver's container, if the manifest does not have any.
    pub args: Vec<String>,
}

/// A driver on the node.
pub struct Driver<'a> {
    scene: &'a Scene,
}

/// The arguments of a driver that issues files from its own CA.
pub fn files_args(scene: &Scene, driver: &str, duration: &str) -> Vec<String> {
    minting_args(scene, driver, "files", duration)
}

/// The arguments of a driver with its own CA.
pub fn minting_args(scene: &Scene, driver: &str, delivery: &str, duration: &str) -> Vec<String> {
    let mut args = words(&["driver", "--source", "local-ca", "--delivery", delivery, "--data-root", "/data"]);
    args.extend(words(&["--trust-domain", "example.org", "--certificate-request-duration", duration]));
    args.extend(words(&[
        "--driver-name",
        driver,
        "--node-id",
        "$(NODE_NAME)",
        "--endpoint",
        "unix:///plugin/csi.sock",
    ]));
    args.extend(registration_args(scene, driver));
    args
}

/// The arguments of a driver that passes the agent's socket on.
pub fn passthrough_args(scene: &Scene, driver: &str) -> Vec<String> {
    let mut args = words(&["driver", "--profile", "csi.spiffe.io", "-plugin-name", driver, "-node-id", "$(NODE_NAME)"]);
    args.extend(words(&["-csi-socket-path", "/plugin/csi.sock", "-workload-api-socket-dir", "/agent/sockets"]));
    args.extend(words(&["--stable-socket-dir", "/agent/stable", "--data-root", "/data"]));
    args.extend(registration_args(scene, driver));
    args
}

/// The arguments with which the driver registers itself.
pub fn registration_args(scene: &Scene, driver: &str) -> Vec<String> {
    let kubelet = scene.kubelet().display().to_string();
    let path = format!("{kubelet}/plugins/{driver}/csi.sock");
    let mut args = words(&["--kubelet-dir", &kubelet, "--kubelet-registration-dir", "/registration"]);
    args.extend(words(&["--kubelet-registration-path", &path]));
    args
}

/// Kills the driver of that name, whose container is then started again.
pub fn kill(driver: &str) -> Result<()> {
    let pids = process::find(|line| line[0].ends_with("/svid-csi") && line.iter().any(|word| word == driver))?;
    ensure!(pids.len() == 1, "the driver's processes are {pids:?}");
    pids.into_iter().for_each(process::kill);
    Ok(())
}

/// Owned words.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Scene {
    /// Registers a driver that issues identities: with pod information, and groups left to the driver.
    pub async fn announce_files(&self, driver: &str) -> Result<()> {
        self.announce(driver, json!({"podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"]})).await
    }

    /// Registers a driver that passes sockets on, like the manifests of spiffe-csi.
    pub async fn announce_passthrough(&self, driver: &str) -> Result<()> {
        let spec = json!({
            "attachRequired": false,
            "podInfoOnMount": true,
            "fsGroupPolicy": "None",
            "volumeLifecycleModes": ["Ephemeral"],
        });
        self.announce(driver, spec).await
    }

    async fn announce(&self, driver: &str, spec: Value) -> Result<()> {
        let object = json!({"metadata": {"name": driver, "labels": {OWNER: self.name}}, "spec": spec});
        let drivers: Api<CSIDriver> = Api::all(self.client.clone());
        // An object that a killed test of this name left belongs to another namespace.
        let _ = drivers.delete(driver, &DeleteParams::default()).await;
        drivers.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    /// Applies a manifest and waits until the driver's pod runs.
    pub async fn deploy(&self, plan: &Plan<'_>) -> Result<Driver<'_>> {
        for object in self.render(plan)? {
            let types = object.types.clone().context("an object without a kind")?;
            let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.name, &resource);
            let apply = PatchParams::apply("e2e").force();
            api.patch(&object.name_any(), &apply, &Patch::Apply(&object)).await?;
        }
        let driver = Driver { scene: self };
        driver.wait_running(None).await?;
        Ok(driver)
    }

    /// Waits until the kubelet knows the driver.
    pub async fn wait_registered(&self, driver: &str) -> Result<()> {
        let nodes: Api<CSINode> = Api::all(self.client.clone());
        eventually(&format!("the kubelet to know {driver}"), SOON, async || {
            let names: Vec<_> = nodes.get(NODE).await?.spec.drivers.into_iter().map(|one| one.name).collect();
            ensure!(names.iter().any(|name| name == driver), "it knows {names:?}");
            Ok(())
        })
        .await
    }

    fn render(&self, plan: &Plan<'_>) -> Result<Vec<DynamicObject>> {
        let open = [
            ("${ARGS}", serde_json::to_string(&plan.args)?),
            ("${BUSYBOX}", images::BUSYBOX.to_owned()),
            ("${DRIVER}", plan.driver.to_owned()),
            ("${FOLDER}", self.folder.display().to_string()),
            ("${IMAGE}", images::DRIVER.to_owned()),
            ("${KUBELET}", self.kubelet().display().to_string()),
            ("${SPIFFE_CSI}", images::SPIFFE_CSI.to_owned()),
            ("${WORKLOAD}", images::WORKLOAD.to_owned()),
        ];
        let text = open.iter().fold(plan.manifest.to_owned(), |text, (name, value)| text.replace(name, value));
        ensure!(!text.contains("${"), "a manifest names something unknown:\n{text}");
        serde_saphyr::from_multiple(&text).map_err(|error| anyhow::anyhow!("{error}"))
    }
}

impl Driver<'_> {
    /// Deletes the driver's pod and waits until its successor runs; `meanwhile` is checked throughout.
    pub async fn replace(&self, mut meanwhile: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let old = self.pod().await?.context("the driver has no pod")?;
        self.pods().delete(&old.name_any(), &DeleteParams::default()).await?;
        let uid = old.uid();
        eventually("the next driver pod", SOON, async || {
            meanwhile().await.context("while the driver is replaced")?;
            let new = self.pod().await?.filter(running).context("no driver pod runs")?;
            ensure!(new.uid() != uid, "the old driver pod still runs");
            Ok(())
        })
        .await?;
        meanwhile().await
    }

    /// Removes the driver from the node and waits until its pod no longer exists.
    pub async fn withdraw(&self) -> Result<()> {
        self.select(json!({"svid-csi.test/nowhere": "true"})).await?;
        eventually("the driver's pod to go", SOON, async || {
            ensure!(self.pod().await?.is_none(), "it is still there");
            Ok(())
        })
        .await
    }

    /// Puts the driver back on the node.
    pub async fn restore(&self) -> Result<()> {
        self.select(json!({"svid-csi.test/nowhere": null})).await?;
        self.wait_running(None).await
    }

    /// The number of restarts of that container.
    pub async fn restarts(&self) -> Result<i32> {
        let pod = self.pod().await?.context("the driver has no pod")?;
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        Ok(statuses.iter().map(|status| status.restart_count).sum())
    }

    /// Waits until the driver's pod runs with all its containers, after that many restarts.
    pub async fn wait_running(&self, restarts: Option<i32>) -> Result<()> {
        eventually("the driver's pod to run", SOON, async || {
            let pod = self.pod().await?.context("there is none")?;
            ensure!(running(&pod), "its status is {}", serde_json::to_string(&pod.status)?);
            let seen = self.restarts().await?;
            ensure!(restarts.is_none_or(|wanted| seen >= wanted), "it was restarted {seen} times");
            Ok(())
        })
        .await
    }

    async fn select(&self, selector: Value) -> Result<()> {
        let sets: Api<DaemonSet> = self.scene.api();
        let change = json!({"spec": {"template": {"spec": {"nodeSelector": selector}}}});
        sets.patch("driver", &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }

    /// The driver's pod; the older one while there are two.
    async fn pod(&self) -> Result<Option<Pod>> {
        let own = ListParams::default().labels(DRIVER_LABEL);
        let mut pods = self.pods().list(&own).await?.items;
        pods.sort_by_key(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(pods.into_iter().next())
    }

    fn pods(&self) -> Api<Pod> {
        self.scene.api()
    }
}

fn running(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    !statuses.is_empty() && statuses.iter().all(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()))
}
