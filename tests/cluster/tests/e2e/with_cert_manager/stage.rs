//! A scene with cert-manager and its own issuer.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi_cluster::accounts::Pod;
use svid_csi_cluster::cert_manager::{CertManager, DefaultApprover};
use svid_csi_cluster::issuers::{self, SigningCa};
use svid_csi_cluster::requests::Terms;
use svid_csi_cluster::session::NODE;
use svid_csi_cluster::spiffe::{Approver, Driver, DriverPlan, Place};
use svid_csi_cluster::{accounts, files, images, objects, predecessor, spiffe};
use svid_csi_core::pod::PodRef;
use tokio::sync::Mutex;

use crate::eventually::{SOON, eventually};
use crate::pods::TestPod;
use crate::scene::{OWNER, Scene, play, play_alone};

/// See the module documentation.
pub struct Stage<'a> {
    pub scene: &'a Scene,
    pub cert_manager: CertManager,
    /// The authority of the issuer.
    pub ca: SigningCa,
    /// The parameters of requests to the issuer, which has the name of the scene.
    pub terms: Terms,
    /// Drivers on the host, which outlive the pods that use them.
    drivers: RefCell<Vec<Rc<Driver>>>,
    /// Objects that are not deleted with the namespace.
    outside: RefCell<Vec<Value>>,
}

static ONE: Mutex<()> = Mutex::const_new(());

/// Runs a test on a stage of its own, with certificates of that lifetime.
pub async fn play_with(name: &str, duration: Duration, story: impl AsyncFnOnce(&Stage<'_>) -> Result<()>) {
    play_beside(name, duration, DefaultApprover::Off, story).await;
}

/// The same with cert-manager's own approver as given.
pub async fn play_beside(
    name: &str,
    duration: Duration,
    approver: DefaultApprover,
    story: impl AsyncFnOnce(&Stage<'_>) -> Result<()>,
) {
    let _one = ONE.lock().await;
    play(name, async |scene: &Scene| on_stage(scene, duration, approver, story).await).await;
}

/// The same while no other test runs.
pub async fn play_alone_with(name: &str, duration: Duration, story: impl AsyncFnOnce(&Stage<'_>) -> Result<()>) {
    let _one = ONE.lock().await;
    play_alone(name, async |scene: &Scene| on_stage(scene, duration, DefaultApprover::Off, story).await).await;
}

async fn on_stage(
    scene: &Scene,
    duration: Duration,
    approver: DefaultApprover,
    story: impl AsyncFnOnce(&Stage<'_>) -> Result<()>,
) -> Result<()> {
    let stage = Stage::set(scene, duration, approver).await?;
    let outcome = story(&stage).await;
    if outcome.is_err() {
        stage.print_logs();
    }
    let ended = scene.end_users().await;
    stage.drivers.take();
    let cleared = objects::delete(&scene.client, &stage.outside.take()).await;
    outcome.and(ended).and(cleared)
}

impl<'a> Stage<'a> {
    async fn set(scene: &'a Scene, duration: Duration, approver: DefaultApprover) -> Result<Self> {
        let layout = scene.layout.clone();
        let started = tokio::task::spawn_blocking(move || {
            let cert_manager = CertManager::on(&layout)?;
            cert_manager.start(approver)?;
            Ok::<_, anyhow::Error>(cert_manager)
        });
        let (issuer, trust_domain) = (scene.name.clone(), "example.org".to_owned());
        let stage = Self {
            scene,
            cert_manager: started.await??,
            ca: SigningCa::create(&scene.name)?,
            terms: Terms { issuer, trust_domain, duration },
            drivers: RefCell::default(),
            outside: RefCell::default(),
        };
        stage.put(&[stage.ca.secret(None, &scene.name)]).await?;
        stage.put_issuer(&issuers::ca_cluster_issuer(&scene.name, &scene.name)).await?;
        Ok(stage)
    }

    /// Applies objects until the stage is cleaned up.
    pub async fn put(&self, objects: &[Value]) -> Result<()> {
        let outside = objects.iter().filter(|object| object["metadata"]["namespace"] != *self.scene.name);
        self.outside.borrow_mut().extend(outside.cloned());
        objects::apply(&self.scene.client, objects).await
    }

    /// Applies an issuer and waits until cert-manager reports it as ready.
    pub async fn put_issuer(&self, issuer: &Value) -> Result<()> {
        self.put(std::slice::from_ref(issuer)).await?;
        eventually(&format!("issuer {} to be ready", issuer["metadata"]["name"]), SOON, async || {
            let seen = objects::get(&self.scene.client, issuer).await?;
            let conditions = seen["status"]["conditions"].as_array().cloned().unwrap_or_default();
            ensure!(conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"), "{conditions:?}");
            Ok(())
        })
        .await
    }

    /// The requests in the scene's namespace.
    pub fn requests(&self) -> Api<CertificateRequest> {
        self.scene.api()
    }

    /// A pod in the form of the kubelet.
    pub fn pod_ref(&self, pod: &TestPod<'_>, account: &str) -> PodRef {
        PodRef {
            namespace: self.scene.name.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            service_account: account.to_owned(),
        }
    }

    /// A client with a token of the pod.
    pub async fn client_of(&self, pod: &TestPod<'_>, account: &str) -> Result<Client> {
        let bound = Pod { name: &pod.name, uid: &pod.uid };
        let token = accounts::token(&self.scene.client, &self.scene.name, account, Some(bound)).await?;
        accounts::bearer(&self.scene.layout, &token).await
    }

    /// The name of the scene's driver.
    pub fn driver_name(&self) -> String {
        format!("{}.svid-csi", self.scene.name.trim_start_matches("e2e-"))
    }

    /// Grants driver and approver the permissions of the predecessor's chart, and creates the CSIDriver object.
    pub async fn announce(&self, config_map: Option<&str>) -> Result<()> {
        let mut driver = predecessor::csi_driver(&self.driver_name());
        driver["metadata"]["labels"] = serde_json::json!({OWNER: self.scene.name});
        self.put(&[driver]).await?;
        self.put(&predecessor::rbac(&self.scene.name, &self.scene.name, config_map)).await
    }

    /// Starts the scene's driver on the host and waits until the kubelet knows it. Its service account has the
    /// permissions of [`announce`](Self::announce).
    pub async fn driver(&self, more: &[&str]) -> Result<Rc<Driver>> {
        self.driver_in(None, more).await
    }

    /// The same, with a token bound to a pod, like a driver in a DaemonSet.
    pub async fn driver_in(&self, pod: Option<Pod<'_>>, more: &[&str]) -> Result<Rc<Driver>> {
        let (name, kubelet) = (self.driver_name(), self.scene.kubelet());
        let more = more.iter().map(|&word| word.to_owned()).collect();
        let plan = DriverPlan { name: &name, kubelet: &kubelet, node: NODE, more };
        let place = self.place(&self.scene.name, pod).await?;
        let driver = Rc::new(Driver::start(&place, &self.terms, &plan).await?);
        self.drivers.borrow_mut().push(Rc::clone(&driver));
        self.scene.wait_registered(&name).await?;
        Ok(driver)
    }

    /// Starts an approver with the predecessor's permissions, and waits until it is ready.
    pub async fn approver(&self, more: &[&str]) -> Result<Approver> {
        let place = self.place(&format!("{}-approver", self.scene.name), None).await?;
        let name = format!("--csi-driver-name={}", self.driver_name());
        let more: Vec<_> = [name.as_str()].into_iter().chain(more.iter().copied()).collect();
        let mut approver = Approver::start(&place, &self.terms, &self.scene.name, &more)?;
        approver.wait_ready().await?;
        Ok(approver)
    }

    /// Writes certificates to the drivers' trust bundle, in one step.
    pub fn write_bundle(&self, certificates: &[&str]) -> Result<PathBuf> {
        let path = self.scene.folder.join("bundle.pem");
        files::write(&path, certificates.concat())?;
        Ok(path)
    }

    /// The requests owned by a pod, the oldest first.
    pub async fn requests_of(&self, pod: &TestPod<'_>) -> Result<Vec<CertificateRequest>> {
        let mut all = self.requests().list(&ListParams::default()).await?.items;
        all.retain(|request| request.owner_references().iter().any(|owner| owner.uid == pod.uid));
        all.sort_by_key(ResourceExt::creation_timestamp);
        Ok(all)
    }

    async fn place(&self, account: &str, pod: Option<Pod<'_>>) -> Result<Place<'_>> {
        let kubeconfig = self.scene.folder.join(format!("{account}.conf"));
        let who = (self.scene.name.as_str(), account);
        accounts::write_kubeconfig(&kubeconfig, &self.scene.layout, &self.scene.client, who, pod).await?;
        spiffe::make_folder(&self.scene.folder)?;
        Ok(Place { binary: self.binary(), folder: &self.scene.folder, kubeconfig })
    }

    fn binary(&self) -> PathBuf {
        images::binary(&self.scene.layout)
    }

    #[allow(clippy::print_stderr, reason = "the report of a failed test")]
    fn print_logs(&self) {
        for program in svid_csi_cluster::cert_manager::PROGRAMS {
            let log = self.scene.layout.logs().join(format!("{program}.log"));
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<_> = text.lines().filter(|line| line.contains(&self.scene.name)).collect();
            eprintln!(
                "--- {program} about {}\n{}",
                self.scene.name,
                lines[lines.len().saturating_sub(20)..].join("\n")
            );
        }
    }
}
