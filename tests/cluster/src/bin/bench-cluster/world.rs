//! The cluster with cert-manager and an issuer, and a node whose kubelet is this program.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod as PodObject, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde_json::json;
use svid_csi::demo::kubelet::{InlineVolume, Kubelet, Plugin, Pod};
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi_cluster::cert_manager::{CertManager, DefaultApprover};
use svid_csi_cluster::eventually::{SOON, eventually};
use svid_csi_cluster::issuers::{self, SigningCa};
use svid_csi_cluster::layout::Layout;
use svid_csi_cluster::requests::Terms;
use svid_csi_cluster::spiffe::{Approver, Driver, DriverPlan, Place};
use svid_csi_cluster::{accounts, images, mounts, objects, predecessor, process, spiffe};
use svid_csi_core::pod::PodRef;

/// The namespace of all objects, and the name of the issuer and of the driver's service account.
pub(crate) const NAME: &str = "bench";
/// The service account of the pods.
pub(crate) const USER: &str = "user";
const NODE: &str = "bench-node";
/// The number of objects created at once outside of measurements.
pub(crate) const HANDS: usize = 32;

/// See the module documentation.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) cert_manager: CertManager,
    pub(crate) kubelet: Kubelet,
    /// Who signs.
    pub(crate) ca: SigningCa,
    pub(crate) folder: PathBuf,
    layout: Layout,
}

impl World {
    pub(crate) async fn set() -> Result<Self> {
        let layout = Layout::of_this_checkout()?;
        let client = accounts::administrator(&layout).await?;
        let cert_manager = CertManager::on(&layout)?;
        cert_manager.start(DefaultApprover::Off)?;
        let folder = layout.scratch().join(NAME);
        mounts::remove_folder(&folder)?;
        spiffe::make_folder(&folder)?;
        let kubelet = Kubelet::new(&folder.join("kubelet"))?;
        let world = Self { client, cert_manager, kubelet, ca: SigningCa::create(NAME)?, folder, layout };
        world.renew_namespace().await?;
        let mut all = vec![world.ca.secret(None, NAME), issuers::ca_cluster_issuer(NAME, NAME)];
        all.extend(predecessor::requester(NAME, USER));
        all.extend(predecessor::rbac(NAME, NAME, None));
        objects::apply(&world.client, &all).await?;
        Ok(world)
    }

    /// Unmounts the remaining volumes; the caller stops the cluster.
    pub(crate) fn clear(&self) -> Result<()> {
        mounts::remove_folder(&self.folder)
    }

    /// The request to the issuer, for certificates with that lifetime.
    pub(crate) fn terms(&self, duration: Duration) -> Terms {
        Terms { issuer: NAME.to_owned(), trust_domain: "example.org".to_owned(), duration }
    }

    pub(crate) fn requests(&self) -> Api<CertificateRequest> {
        Api::namespaced(self.client.clone(), NAME)
    }

    /// Starts an approver and waits until it is ready.
    pub(crate) async fn approver(&self, terms: &Terms) -> Result<Approver> {
        self.approver_with(terms, &[]).await
    }

    /// The same with additional flags.
    pub(crate) async fn approver_with(&self, terms: &Terms, more: &[&str]) -> Result<Approver> {
        let place = self.place(&format!("{NAME}-approver")).await?;
        let mut approver = Approver::start(&place, terms, NAME, more)?;
        approver.wait_ready().await?;
        Ok(approver)
    }

    /// Starts a driver and waits until it answers.
    pub(crate) async fn driver(&self, terms: &Terms) -> Result<(Driver, Plugin)> {
        self.driver_with(terms, Vec::new()).await
    }

    /// The same with additional flags.
    pub(crate) async fn driver_with(&self, terms: &Terms, more: Vec<String>) -> Result<(Driver, Plugin)> {
        let place = self.place(NAME).await?;
        let kubelet = self.folder.join("kubelet");
        let plan = DriverPlan { name: predecessor::DRIVER, kubelet: &kubelet, node: NODE, more };
        let driver = Driver::start(&place, terms, &plan).await?;
        let plugin = Plugin::connect(&driver.socket()).await?;
        Ok((driver, plugin))
    }

    /// Pods that are never scheduled, each with a volume of the driver and a token of its own.
    pub(crate) async fn volumes(&self, prefix: &str, count: usize) -> Result<Vec<InlineVolume>> {
        let made = stream::iter(0..count).map(|index| self.volume(format!("{prefix}-{index}")));
        made.buffer_unordered(HANDS).try_collect().await
    }

    /// A pod that is never scheduled, of the service account whose requests are to be approved.
    pub(crate) async fn pod(&self, name: &str) -> Result<PodRef> {
        let pods: Api<PodObject> = Api::namespaced(self.client.clone(), NAME);
        let created = pods.create(&PostParams::default(), &serde_json::from_value(pod_object(name))?).await?;
        pod_ref(&created)
    }

    /// A pod of a service account on a node without a kubelet, with a volume of the driver.
    pub(crate) async fn pod_on(&self, node: &str, name: &str, account: &str) -> Result<PodRef> {
        let mut object = pod_object(name);
        object["spec"]["nodeName"] = node.into();
        object["spec"]["serviceAccountName"] = account.into();
        object["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.remove("schedulingGates");
        }
        let pods: Api<PodObject> = Api::namespaced(self.client.clone(), NAME);
        pod_ref(&pods.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    /// A client, with connections of its own, that has a token bound to the pod.
    pub(crate) async fn client_of(&self, pod: &PodRef) -> Result<Client> {
        let bound = accounts::Pod { name: &pod.name, uid: &pod.uid };
        let token = accounts::token(&self.client, NAME, &pod.service_account, Some(bound)).await?;
        accounts::bearer(&self.layout, &token).await
    }

    /// The process of a program of the cluster.
    pub(crate) fn pid(&self, program: &str) -> Result<u32> {
        process::pid(&self.layout, program).with_context(|| format!("{program} does not run"))
    }

    async fn volume(&self, name: String) -> Result<InlineVolume> {
        let PodRef { namespace, name, uid, service_account } = self.pod(&name).await?;
        let bound = accounts::Pod { name: &name, uid: &uid };
        let tokens = accounts::csi_tokens(&self.client, NAME, USER, bound).await?;
        let pod = Pod { uid, name, namespace, service_account, fs_group: None };
        Ok(InlineVolume { tokens: Some(tokens), ..InlineVolume::new(&pod, "spiffe") })
    }

    async fn place(&self, account: &str) -> Result<Place<'_>> {
        let kubeconfig = self.folder.join(format!("{account}.conf"));
        accounts::write_kubeconfig(&kubeconfig, &self.layout, &self.client, (NAME, account), None).await?;
        Ok(Place { binary: images::binary(&self.layout), folder: &self.folder, kubeconfig })
    }

    /// An empty namespace, even if an earlier run left one.
    async fn renew_namespace(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if let Some(old) = namespaces.get_opt(NAME).await? {
            namespaces.delete(NAME, &DeleteParams::default()).await?;
            let uid = old.uid().context("the namespace has no UID")?;
            await_condition(namespaces.clone(), NAME, conditions::is_deleted(&uid)).await?;
        }
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAME}}))?;
        namespaces.create(&PostParams::default(), &namespace).await?;
        let account: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAME);
        eventually("the default service account", SOON, async || Ok(account.get("default").await?)).await.map(drop)
    }
}

fn pod_ref(created: &PodObject) -> Result<PodRef> {
    let spec = created.spec.as_ref().context("a created pod has a spec")?;
    Ok(PodRef {
        namespace: NAME.to_owned(),
        name: created.name_any(),
        uid: created.uid().context("a created pod has a UID")?,
        service_account: spec.service_account_name.clone().context("a created pod has a service account")?,
    })
}

fn pod_object(name: &str) -> serde_json::Value {
    let container = json!({"name": "main", "image": images::BUSYBOX});
    json!({
        "metadata": {"name": name},
        "spec": {
            "serviceAccountName": USER,
            "automountServiceAccountToken": false,
            "schedulingGates": [{"name": "svid-csi.test/bench"}],
            "containers": [container],
            "volumes": [{"name": "spiffe", "csi": {"driver": predecessor::DRIVER, "readOnly": true}}],
        },
    })
}
