//! The environment of a test: a namespace, a folder on the host, and the names derived from it.

use std::cell::RefCell;
use std::fmt::Debug;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use futures::FutureExt;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, Config, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use svid_csi_cluster::layout::Layout;
use svid_csi_cluster::mounts;
use tokio::sync::RwLock;

use crate::eventually::{SOON, eventually};
use crate::registrar::Registrar;
use crate::report;

/// Marks objects of a test outside its namespace with the namespace's name.
pub const OWNER: &str = "svid-csi.test/owner";
/// Distinguishes driver pods from the others.
pub const DRIVER_LABEL: &str = "svid-csi.test/driver";

/// See the module documentation.
pub struct Scene {
    /// A client with the administrator's account.
    pub client: Client,
    /// The namespace, the folder and the prefix of the driver's name.
    pub name: String,
    /// On the host, for the agent's socket and the driver's data.
    pub folder: PathBuf,
    /// The paths of the cluster.
    pub layout: Layout,
    registrars: RefCell<Vec<Registrar>>,
}

/// Held shared by every test, and exclusively by one that disturbs the cluster itself.
static CLUSTER: RwLock<()> = RwLock::const_new(());

/// Runs a test in a new scene, and cleans it up in any case.
pub async fn play(name: &str, story: impl AsyncFnOnce(&Scene) -> Result<()>) {
    let _with_others = CLUSTER.read().await;
    play_now(name, story).await;
}

/// Runs a test while no other test runs, because it temporarily removes parts that they need.
pub async fn play_alone(name: &str, story: impl AsyncFnOnce(&Scene) -> Result<()>) {
    let _alone = CLUSTER.write().await;
    play_now(name, story).await;
}

async fn play_now(name: &str, story: impl AsyncFnOnce(&Scene) -> Result<()>) {
    let started = Instant::now();
    let scene = Scene::open(name).await.unwrap_or_else(|error| panic!("cannot set the scene {name}: {error:#}"));
    let outcome = AssertUnwindSafe(story(&scene)).catch_unwind().await;
    if !matches!(outcome, Ok(Ok(()))) {
        report::print(&scene).await;
    }
    let closed = scene.close().await;
    report::note_duration(&scene, started.elapsed());
    match outcome {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(Err(error)) => panic!("{name}: {error:#}"),
        Ok(Ok(())) => closed.unwrap_or_else(|error| panic!("{name}: cannot clear the scene: {error:#}")),
    }
}

impl Scene {
    /// A new scene. The caller closes it in any case.
    pub async fn open(name: &str) -> Result<Self> {
        let layout = Layout::of_this_checkout()?;
        let folder = layout.scratch().join(name);
        let scene = Self {
            client: client(&layout).await?,
            name: name.to_owned(),
            folder,
            layout,
            registrars: RefCell::default(),
        };
        // The leftovers of a killed test.
        scene.close().await?;
        fs::create_dir_all(&scene.folder).with_context(|| format!("cannot make {}", scene.folder.display()))?;
        let namespace = json!({"metadata": {"name": name}});
        let namespaces = Api::<Namespace>::all(scene.client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
        let accounts: Api<ServiceAccount> = scene.api();
        eventually("the default service account", SOON, async || Ok(accounts.get("default").await?)).await?;
        Ok(scene)
    }

    /// Pods with volumes first, while their driver still runs; then everything else.
    pub async fn close(&self) -> Result<()> {
        let ended = self.end_users().await;
        self.registrars.take();
        self.delete_owned::<CSIDriver>().await?;
        self.delete_owned::<ClusterRoleBinding>().await?;
        self.delete_owned::<ClusterRole>().await?;
        self.delete_namespace().await?;
        mounts::remove_folder(&self.folder)?;
        ended
    }

    /// Ends the pods that are not drivers, whatever created them.
    pub async fn end_users(&self) -> Result<()> {
        let all = ListParams::default();
        self.api::<Deployment>().delete_collection(&DeleteParams::default(), &all).await?;
        let users = ListParams::default().labels(&format!("!{DRIVER_LABEL}"));
        let pods: Api<Pod> = self.api();
        eventually("the pods to end", SOON, async || {
            let left: Vec<_> = pods.list(&users).await?.items;
            // A pod that a controller has yet to create is also ended.
            if left.iter().any(|pod| pod.metadata.deletion_timestamp.is_none()) {
                pods.delete_collection(&DeleteParams::default(), &users).await?;
            }
            let left: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
            anyhow::ensure!(left.is_empty(), "{left:?} is left");
            Ok(())
        })
        .await
    }

    /// Deletes the scene's objects of a cluster-scoped kind.
    async fn delete_owned<K>(&self) -> Result<()>
    where
        K: kube::Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let owned = ListParams::default().labels(&format!("{OWNER}={}", self.name));
        Api::<K>::all(self.client.clone()).delete_collection(&DeleteParams::default(), &owned).await?;
        Ok(())
    }

    async fn delete_namespace(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let Some(namespace) = namespaces.get_opt(&self.name).await? else { return Ok(()) };
        let uid = namespace.uid().context("the namespace has no UID")?;
        let pods: Api<Pod> = self.api();
        pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
        namespaces.delete(&self.name, &DeleteParams::default()).await?;
        let deleted = await_condition(namespaces, &self.name, conditions::is_deleted(&uid));
        tokio::time::timeout(SOON, deleted).await.context("the namespace does not go")??;
        Ok(())
    }

    /// Registers a driver whose manifest leaves that to a sidecar, until the scene is cleaned up.
    pub async fn register(&self, driver: &str, endpoint: &Path) -> Result<()> {
        let registrar = Registrar::start(self, driver, endpoint).await?;
        self.registrars.borrow_mut().push(registrar);
        self.wait_registered(driver).await
    }

    /// Withdraws the registration of [`register`](Self::register), like a sidecar that ends with its pod.
    pub fn withdraw_registrars(&self) {
        self.registrars.take();
    }

    /// Objects of one kind in the scene's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// The kubelet's root folder, as named in manifests.
    pub fn kubelet(&self) -> PathBuf {
        self.layout.kubelet()
    }
}

async fn client(layout: &Layout) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(layout.kubeconfig()).context("no cluster is up: run `just cluster-up`")?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
