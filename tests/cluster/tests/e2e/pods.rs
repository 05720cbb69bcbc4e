//! Pods that use volumes, and their output.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, AttachParams, DeleteParams, ListParams, LogParams, PostParams};
use serde_json::{Value, json};
use svid_csi_cluster::images;
use svid_csi_cluster::node::Runtime;
use tokio::io::AsyncReadExt;

use crate::eventually::{SOON, eventually};
use crate::scene::Scene;

/// The mount path of the volume in test pods.
pub const MOUNT: &str = "/spiffe";

/// The parameters of a test pod; everything else is as simple as possible.
pub struct PodSpec<'a> {
    /// The pod's name.
    pub name: &'a str,
    /// The driver of its volume, if it has one.
    pub driver: Option<&'a str>,
    /// Its service account.
    pub account: &'a str,
    pub labels: Value,
    /// The attributes of its volume.
    pub attributes: Value,
    /// The image of its container.
    pub image: &'a str,
    /// The command of its container.
    pub command: Vec<&'a str>,
    /// The `readOnly` of its volume and of the container's mount, left out when `None`.
    pub read_only: Option<bool>,
    /// The pod's security context.
    pub security: Value,
    /// Its container's security context.
    pub container_security: Value,
    /// Whether it has a user namespace of its own.
    pub user_namespace: bool,
    /// Its runtime.
    pub runtime: Runtime,
}

impl<'a> PodSpec<'a> {
    /// A pod that watches the Workload API on the socket in its volume.
    pub fn on_socket(name: &'a str, driver: &'a str) -> Self {
        Self::new(name, driver, vec!["/bin/workload", "watch", "--socket", "/spiffe/agent.sock"])
    }

    /// A pod that verifies the files in its volume, again after each change.
    pub fn on_files(name: &'a str, driver: &'a str) -> Self {
        Self::new(name, driver, vec!["/bin/workload", "verify", "--files", MOUNT, "--watch"])
    }

    /// A pod that watches its volume, with only the driver's own program in its image, and not as root.
    pub fn watching(name: &'a str, driver: &'a str, what: [&'a str; 2]) -> Self {
        let command = [&["/bin/svid-csi", "watch", "--json"], &what[..]].concat();
        let security = json!({"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "fsGroup": 2000});
        Self { image: images::DRIVER, security, ..Self::new(name, driver, command) }
    }

    /// A pod with any command.
    pub fn new(name: &'a str, driver: &'a str, command: Vec<&'a str>) -> Self {
        Self {
            name,
            driver: Some(driver),
            account: "default",
            labels: json!({}),
            attributes: json!({}),
            image: images::WORKLOAD,
            command,
            read_only: Some(true),
            security: json!({}),
            container_security: json!({}),
            user_namespace: false,
            runtime: Runtime::Default,
        }
    }

    /// A pod without a volume that does nothing.
    pub fn idle(name: &'a str) -> Self {
        Self { driver: None, ..Self::new(name, "", vec!["/bin/sleep", "2147483647"]) }
    }

    fn manifest(&self) -> Value {
        let mut container = json!({
            "name": "main",
            "image": self.image,
            "imagePullPolicy": "Never",
            "command": self.command,
            "securityContext": self.container_security,
        });
        let mut spec = json!({
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "serviceAccountName": self.account,
            "securityContext": self.security,
        });
        if self.user_namespace {
            spec["hostUsers"] = json!(false);
        }
        if self.runtime != Runtime::Default {
            spec["runtimeClassName"] = json!(self.runtime.name());
        }
        if let Some(driver) = self.driver {
            let mut volume = json!({"driver": driver, "volumeAttributes": self.attributes});
            let mut mount = json!({"name": "identity", "mountPath": MOUNT});
            if let Some(read_only) = self.read_only {
                volume["readOnly"] = json!(read_only);
                mount["readOnly"] = json!(read_only);
            }
            container["volumeMounts"] = json!([mount]);
            spec["volumes"] = json!([{"name": "identity", "csi": volume}]);
        }
        spec["containers"] = json!([container]);
        json!({"metadata": {"name": self.name, "labels": self.labels}, "spec": spec})
    }
}

/// A pod of a test, by name.
pub struct TestPod<'a> {
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    scene: &'a Scene,
}

impl Scene {
    /// Creates a pod; it may not be able to start.
    pub async fn create(&self, spec: &PodSpec<'_>) -> Result<TestPod<'_>> {
        let pod: Pod = serde_json::from_value(spec.manifest())?;
        let pod = self.api::<Pod>().create(&PostParams::default(), &pod).await?;
        let uid = pod.uid().context("a created pod has a UID")?;
        Ok(self.known(spec.name, &uid))
    }

    /// A pod that was created in another way.
    pub fn known(&self, name: &str, uid: &str) -> TestPod<'_> {
        TestPod { name: name.to_owned(), uid: uid.to_owned(), scene: self }
    }

    /// Creates a pod and waits until it runs.
    pub async fn run(&self, spec: &PodSpec<'_>) -> Result<TestPod<'_>> {
        let pod = self.create(spec).await?;
        pod.wait_running().await?;
        Ok(pod)
    }
}

impl TestPod<'_> {
    /// Waits until the pod runs.
    pub async fn wait_running(&self) -> Result<()> {
        eventually(&format!("pod {} to run", self.name), SOON, async || {
            let pod = self.pods().get(&self.name).await?;
            let status = pod.status.unwrap_or_default();
            let started = status.container_statuses.unwrap_or_default().iter().all(|one| one.started == Some(true));
            ensure!(started && status.phase.as_deref() == Some("Running"), "its phase is {:?}", status.phase);
            Ok(())
        })
        .await
    }

    /// The output of the pod.
    pub async fn log(&self) -> Result<String> {
        Ok(self.pods().logs(&self.name, &LogParams::default()).await?)
    }

    /// The JSON lines in the output of the pod.
    pub async fn lines(&self) -> Result<Vec<Value>> {
        Ok(json_lines(&self.log().await?))
    }

    /// Waits for a line after the first `seen` ones that satisfies `wanted`, and returns it.
    pub async fn wait_line(&self, what: &str, seen: usize, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually(&format!("pod {} to print {what}", self.name), SOON, async || {
            let lines = self.lines().await?;
            let found = lines.iter().skip(seen).find(|line| wanted(line)).cloned();
            found.with_context(|| format!("{} lines, the last is {:?}", lines.len(), lines.last()))
        })
        .await
    }

    /// Runs a command in the pod and returns its output; fails if it fails.
    pub async fn exec(&self, command: &[&str]) -> Result<String> {
        let streams = AttachParams::default().stdout(true).stderr(true);
        let mut process = self.pods().exec(&self.name, command.iter().copied(), &streams).await?;
        let status = process.take_status().context("no status")?;
        let (mut output, mut errors) = (String::new(), String::new());
        let mut stdout = process.stdout().context("no output")?;
        let mut stderr = process.stderr().context("no errors")?;
        futures::try_join!(stdout.read_to_string(&mut output), stderr.read_to_string(&mut errors))?;
        let status = status.await.context("the command's status was lost")?;
        if status.status.as_deref() != Some("Success") {
            bail!("{command:?} in {}: {} {output} {errors}", self.name, status.message.unwrap_or_default());
        }
        Ok(output)
    }

    /// Verifies the files in the pod's volume, from within the pod.
    pub async fn verify_files(&self) -> Result<Value> {
        let output = self.exec(&["/bin/workload", "verify", "--files", MOUNT]).await?;
        let lines = json_lines(&output);
        lines.into_iter().next().with_context(|| format!("no JSON in {output:?}"))
    }

    /// The number of restarts of its container.
    pub async fn restarts(&self) -> Result<i32> {
        let pod = self.pods().get(&self.name).await?;
        ensure!(pod.uid().as_deref() == Some(&self.uid), "pod {} was replaced", self.name);
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        Ok(statuses.iter().map(|status| status.restart_count).sum())
    }

    /// Waits for an event of the pod whose message satisfies `wanted`, and returns the message. A volume may wait for a minute
    /// before the kubelet says why.
    pub async fn wait_event(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let own = ListParams::default().fields(&format!("involvedObject.uid={}", self.uid));
        let events: Api<Event> = self.scene.api();
        eventually(&format!("an event of {} about {what}", self.name), 2 * SOON, async || {
            let mut messages = events.list(&own).await?.items.into_iter().filter_map(|event| event.message);
            let seen: Vec<_> = messages.by_ref().collect();
            seen.iter().find(|message| wanted(message)).cloned().with_context(|| format!("the events are {seen:?}"))
        })
        .await
    }

    /// Deletes the pod without waiting.
    pub async fn delete(&self) -> Result<()> {
        self.pods().delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Whether the pod still exists.
    pub async fn exists(&self) -> Result<bool> {
        let pod = self.pods().get_opt(&self.name).await?;
        Ok(pod.is_some_and(|pod| pod.uid().as_deref() == Some(&self.uid)))
    }

    /// Waits until the pod no longer exists; its volumes are then unmounted.
    pub async fn wait_gone(&self) -> Result<()> {
        eventually(&format!("pod {} to go", self.name), 2 * SOON, async || {
            ensure!(!self.exists().await?, "it is still there");
            Ok(())
        })
        .await
    }

    fn pods(&self) -> Api<Pod> {
        self.scene.api()
    }
}

/// The lines of a text that are JSON.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
