//! A release of the chart in its own namespace, separate from that of the pods that use it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use svid_csi_cluster::helm::Helm;
use svid_csi_cluster::{images, mounts};

use crate::eventually::{SOON, eventually};
use crate::report;
use crate::scene::{DRIVER_LABEL, OWNER, Scene};

/// See the module documentation.
pub struct Release<'a> {
    /// The namespace of the pods that use it.
    pub users: &'a Scene,
    /// Its own namespace.
    pub home: Scene,
    /// The name of its CSI driver.
    pub driver: &'a str,
    helm: Helm,
}

/// Runs a test with a release that serves that driver name, and uninstalls it afterwards in any case.
pub async fn with_release(
    users: &Scene,
    driver: &str,
    story: impl AsyncFnOnce(&Release<'_>) -> Result<()>,
) -> Result<()> {
    let release = Release::open(users, driver).await?;
    let outcome = story(&release).await;
    if outcome.is_err() {
        report::print(&release.home).await;
    }
    let ended = users.end_users().await;
    outcome.and(ended).and(release.close().await)
}

impl<'a> Release<'a> {
    async fn open(users: &'a Scene, driver: &'a str) -> Result<Self> {
        let home = Scene::open(&format!("{}-home", users.name)).await?;
        // A release that a killed test of this name left belongs to another namespace.
        let drivers: Api<CSIDriver> = Api::all(home.client.clone());
        let _ = drivers.delete(driver, &DeleteParams::default()).await;
        let helm = Helm::new(&home.layout, &home.name);
        Ok(Self { users, home, driver, helm })
    }

    async fn close(&self) -> Result<()> {
        // Fails if the test has already uninstalled it.
        let _ = self.helm.uninstall().await;
        let withdrawn = self.wait_no_driver().await;
        self.home.close().await?;
        mounts::remove_folder(&self.home.kubelet().join("plugins").join(self.driver))?;
        withdrawn
    }

    /// Installs it with a profile of the chart and further values; its pods need not run yet.
    pub async fn install(&self, profile: &str, values: &Value) -> Result<()> {
        self.helm.install(profile, &self.with_place(values)).await.map(drop)
    }

    /// Lets the API server validate the objects to be installed, and returns them.
    pub async fn dry_run(&self, profile: &str, values: &Value) -> Result<String> {
        self.helm.dry_run(profile, &self.with_place(values)).await
    }

    /// The objects to be installed, without an installation.
    pub async fn template(&self, profile: &str, values: &Value) -> Result<String> {
        self.helm.template(profile, self.home.layout.kubernetes, &self.with_place(values)).await
    }

    /// Upgrades it with changed values.
    pub async fn upgrade(&self, values: &Value) -> Result<()> {
        self.helm.upgrade(values).await.map(drop)
    }

    /// Reverts the last change.
    pub async fn rollback(&self) -> Result<()> {
        self.helm.rollback().await.map(drop)
    }

    /// Uninstalls it and waits until its driver no longer exists.
    pub async fn uninstall(&self) -> Result<()> {
        self.helm.uninstall().await?;
        self.wait_no_driver().await
    }

    /// The values that this cluster needs in addition to a profile: the loaded images, its kubelet's folder, unique
    /// names, and labels for the cleanup.
    fn with_place(&self, values: &Value) -> Value {
        let mut all = json!({
            "imageRegistry": images::REPOSITORY,
            "imageNamespace": "",
            "driverImage": {"tag": images::TAG},
            "approverImage": {"tag": images::TAG},
            "kubeletDir": self.home.kubelet(),
            "nameOverride": self.users.name,
            "commonLabels": {DRIVER_LABEL: "true", OWNER: self.home.name},
        });
        merge(&mut all, values);
        all
    }

    /// Waits until one driver pod of the release is ready and runs the image with that tag; returns the pod.
    pub async fn wait_driver(&self, tag: &str) -> Result<Pod> {
        self.wait_pods("driver", tag).await?.pop().context("no driver pod")
    }

    /// Waits until all pods of a component are ready, at least one, and run the image with that tag.
    pub async fn wait_pods(&self, component: &str, tag: &str) -> Result<Vec<Pod>> {
        let own = self.component(component);
        eventually(&format!("the {component} of {tag}"), SOON, async || {
            let pods = self.home.api::<Pod>().list(&own).await?.items;
            ensure!(!pods.is_empty(), "there is none");
            for pod in &pods {
                ensure!(is_ready(pod) && tag_of(pod) == tag, "{} is not", pod.name_any());
            }
            Ok(pods)
        })
        .await
    }

    /// Renews every volume at once.
    pub async fn renew_all(&self) -> Result<()> {
        let pod = self.home.api::<Pod>().list(&self.component("driver")).await?.items.pop().context("no driver pod")?;
        let pod = self.home.known(&pod.name_any(), &pod.uid().context("a pod has a UID")?);
        pod.exec(&["/bin/svid-csi", "renew", "--all", "--data-root", "/plugin/data"]).await.map(drop)
    }

    /// Gives the loaded image its second tag.
    pub async fn tag_next(&self) -> Result<()> {
        let layout = self.home.layout.clone();
        tokio::task::spawn_blocking(move || images::tag_next(&layout)).await?
    }

    async fn wait_no_driver(&self) -> Result<()> {
        let own = self.component("driver");
        eventually("the driver's pod to go", SOON, async || {
            let left = self.home.api::<Pod>().list(&own).await?.items.len();
            ensure!(left == 0, "{left} are still there");
            Ok(())
        })
        .await
    }

    fn component(&self, component: &str) -> ListParams {
        ListParams::default().labels(&format!("app.kubernetes.io/component={component}"))
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn tag_of(pod: &Pod) -> String {
    let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
    image.rsplit(':').next().unwrap_or_default().to_owned()
}

/// Merges values like Helm.
fn merge(all: &mut Value, more: &Value) {
    match (all.as_object_mut(), more.as_object()) {
        (Some(all), Some(more)) => {
            more.iter().for_each(|(key, value)| merge(all.entry(key).or_insert(Value::Null), value))
        }
        _ => *all = more.clone(),
    }
}
