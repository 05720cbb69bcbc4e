//! Features of a node that pods with volumes use, and events in the life of a node.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, EvictParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use svid_csi_cluster::session::{NODE, Session};
use svid_csi_cluster::tools::Tools;
use svid_csi_cluster::{images, kubectl, node, process};

use crate::eventually::{SOON, eventually, throughout};
use crate::files::{deploy, ensure_verified};
use crate::mountpoints::{ensure_gone, ensure_single};
use crate::pods::{PodSpec, TestPod};
use crate::restart::{ensure_always_verified, wait_renewal};
use crate::scene::{Scene, play, play_alone};

/// As many as a node has by default.
const PODS: usize = 110;
const VERIFY: [&str; 4] = ["/bin/workload", "verify", "--files", "/spiffe"];

/// A container with the volume, as the Pod Security Standard `restricted` wants it.
fn container(name: &str, command: &[&str]) -> Value {
    json!({
        "name": name,
        "image": images::WORKLOAD,
        "imagePullPolicy": "Never",
        "command": command,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [{"name": "identity", "mountPath": "/spiffe", "readOnly": true}],
    })
}

/// A pod with one such container that sleeps, and what `change` sets.
async fn run_pod<'a>(
    scene: &'a Scene,
    name: &str,
    driver: &str,
    change: impl FnOnce(&mut Value),
) -> Result<TestPod<'a>> {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "securityContext": {
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "runAsNonRoot": true,
            "fsGroup": 2000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container("main", &["/bin/sleep", "2147483647"])],
        "volumes": [{"name": "identity", "csi": {"driver": driver, "readOnly": true}}],
    });
    change(&mut spec);
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}))?;
    let pod = scene.api::<Pod>().create(&PostParams::default(), &pod).await?;
    let pod = scene.known(name, &pod.uid().context("a created pod has a UID")?);
    pod.wait_running().await?;
    Ok(pod)
}

/// Every kind of container that a pod has, in a namespace that enforces `restricted`.
#[tokio::test]
async fn one_volume_serves_every_kind_of_container() {
    play("e2e-containers", async |scene: &Scene| {
        let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        // The driver itself is privileged.
        deploy(scene, "containers.svid-csi", "1h").await?;
        let namespaces: Api<Namespace> = Api::all(scene.client.clone());
        namespaces.patch(&scene.name, &PatchParams::default(), &Patch::Merge(label)).await?;
        let pod = run_pod(scene, "all", "containers.svid-csi", |spec| {
            let mut sidecar = container("sidecar", &[&VERIFY[..], &["--watch"]].concat());
            sidecar["restartPolicy"] = json!("Always");
            spec["initContainers"] = json!([container("init", &VERIFY), sidecar]);
            spec["automountServiceAccountToken"] = json!(true);
            let beside = json!({"serviceAccountToken": {"path": "token", "audience": "vault"}});
            let projected = json!({"name": "projected", "projected": {"sources": [beside]}});
            spec["volumes"].as_array_mut().expect("a list").push(projected);
            let mounts = spec["containers"][0]["volumeMounts"].as_array_mut().expect("a list");
            mounts.push(json!({"name": "projected", "mountPath": "/projected", "readOnly": true}));
            // A single file, which never changes: docs/reload.md.
            mounts.push(json!({"name": "identity", "mountPath": "/one.crt", "subPath": "tls.crt", "readOnly": true}));
        })
        .await?;
        ensure_verified(scene, &pod.verify_files().await?)?;
        let [alone, within] = [pod.exec(&["cat", "/one.crt"]).await?, pod.exec(&["cat", "/spiffe/tls.crt"]).await?];
        ensure!(alone == within, "the file mounted with subPath is another one");
        ensure!(!pod.exec(&["cat", "/projected/token"]).await?.is_empty(), "the projected volume is empty");
        pod.delete().await?;
        pod.wait_gone().await?;
        ensure_gone(scene, &pod)
    })
    .await;
}

#[tokio::test]
async fn a_pod_in_a_user_namespace_reads_its_files_as_root() {
    play("e2e-user-namespace", async |scene: &Scene| {
        deploy(scene, "userns.svid-csi", "30s").await?;
        let pod = run_pod(scene, "mapped", "userns.svid-csi", |spec| {
            spec["hostUsers"] = json!(false);
            spec["securityContext"] = json!({"seccompProfile": {"type": "RuntimeDefault"}});
        })
        .await?;
        let map = pod.exec(&["cat", "/proc/self/uid_map"]).await?;
        let outside = map.split_whitespace().nth(1).context("an empty map")?;
        ensure!(outside != "0", "the pod has no user namespace of its own: {map}");
        let owner = pod.exec(&["stat", "-L", "-c", "%u %g %a", "/spiffe/tls.key"]).await?;
        ensure!(owner.trim() == "0 0 440", "the key has owner, group and mode {owner}");
        let first = pod.verify_files().await?;
        ensure_verified(scene, &first)?;
        eventually("a renewal", SOON, async || {
            let now = pod.verify_files().await?;
            ensure!(now["serial"] != first["serial"], "{now}");
            ensure_verified(scene, &now)
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn a_pod_in_the_network_of_its_node_reads_its_files() {
    play("e2e-host-network", async |scene: &Scene| {
        deploy(scene, "host-network.svid-csi", "1h").await?;
        let change = |spec: &mut Value| spec["hostNetwork"] = json!(true);
        let pod = run_pod(scene, "host", "host-network.svid-csi", change).await?;
        ensure_verified(scene, &pod.verify_files().await?)
    })
    .await;
}

#[tokio::test]
async fn a_job_that_starts_its_container_again_keeps_its_volume() {
    play("e2e-job", async |scene: &Scene| {
        deploy(scene, "job.svid-csi", "1h").await?;
        // Fails the first time, and finishes the second time.
        let script = "[ -e /state/tried ] && exec /bin/workload verify --files /spiffe; touch /state/tried; exit 1";
        let pod = json!({
            "metadata": {"name": "job", "labels": {"app": "job"}},
            "spec": {
                "restartPolicy": "OnFailure",
                "containers": [{
                    "name": "main",
                    "image": images::WORKLOAD,
                    "imagePullPolicy": "Never",
                    "command": ["/bin/sh", "-c", script],
                    "volumeMounts": [
                        {"name": "identity", "mountPath": "/spiffe", "readOnly": true},
                        {"name": "state", "mountPath": "/state"},
                    ],
                }],
                "volumes": [
                    {"name": "identity", "csi": {"driver": "job.svid-csi", "readOnly": true}},
                    {"name": "state", "emptyDir": {}},
                ],
            },
        });
        let pods: Api<Pod> = scene.api();
        let created = pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        let pod = scene.known("job", &created.uid().context("a created pod has a UID")?);
        eventually("the pod to succeed", SOON, async || {
            let status = pods.get("job").await?.status.unwrap_or_default();
            ensure!(status.phase.as_deref() == Some("Succeeded"), "its phase is {:?}", status.phase);
            Ok(())
        })
        .await?;
        ensure!(pod.restarts().await? == 1, "its container was started {} times again", pod.restarts().await?);
        // The kubelet unmounts the volumes of a finished pod that still exists.
        eventually("the volume to be unmounted", 2 * SOON, async || ensure_gone(scene, &pod)).await
    })
    .await;
}

#[tokio::test]
async fn a_kubelet_that_restarts_leaves_volumes_as_they_are() {
    play_alone("e2e-kubelet", async |scene: &Scene| {
        deploy(scene, "kubelet.svid-csi", "30s").await?;
        let pod = scene.run(&PodSpec::on_files("user", "kubelet.svid-csi")).await?;
        pod.wait_line("a certificate", 0, |line| line["chain_ok"] == true).await?;
        let layout = scene.layout.clone();
        process::stop(&layout, "kubelet")?;
        let (tools, session) = (Tools::new(&layout), Session::load(&layout)?);
        let started = tokio::task::spawn_blocking(move || {
            node::start_kubelet(&layout, &tools, &session)?;
            node::wait_ready(&layout, &tools)
        });
        started.await??;
        // The node counts as ready before the kubelet knows its pods again.
        let seen = eventually("the kubelet to serve logs", SOON, async || pod.lines().await).await?.len();
        wait_renewal(scene, &pod, seen).await?;
        scene.wait_registered("kubelet.svid-csi").await?;
        ensure_always_verified(scene, &pod).await?;
        let later = scene.run(&PodSpec::on_files("later", "kubelet.svid-csi")).await?;
        ensure_verified(scene, &later.verify_files().await?)?;
        pod.delete().await?;
        pod.wait_gone().await?;
        ensure_gone(scene, &pod)
    })
    .await;
}

#[tokio::test]
async fn evicted_and_drained_pods_leave_nothing() {
    play_alone("e2e-drain", async |scene: &Scene| {
        deploy(scene, "drain.svid-csi", "1h").await?;
        let evicted = run_pod(scene, "evicted", "drain.svid-csi", |_| ()).await?;
        scene.api::<Pod>().evict("evicted", &EvictParams::default()).await?;
        evicted.wait_gone().await?;
        ensure_gone(scene, &evicted)?;

        let drained = run_pod(scene, "drained", "drain.svid-csi", |_| ()).await?;
        let (layout, tools) = (scene.layout.clone(), Tools::new(&scene.layout));
        let drain = ["drain", NODE, "--force", "--ignore-daemonsets", "--pod-selector=app=drained", "--timeout=60s"];
        let outcome = tokio::task::spawn_blocking(move || {
            let drained = kubectl::ask(&layout, &tools, &drain);
            kubectl::ask(&layout, &tools, &["uncordon", NODE]).and(drained)
        });
        outcome.await??;
        ensure!(!drained.exists().await?, "the drained pod is still there");
        ensure_gone(scene, &drained)
    })
    .await;
}

#[tokio::test]
async fn a_full_node_of_pods_starts_at_once() {
    play_alone("e2e-full-node", async |scene: &Scene| {
        deploy(scene, "full.svid-csi", "1h").await?;
        let names: Vec<_> = (0..PODS).map(|index| format!("user-{index}")).collect();
        let started = Instant::now();
        let mut pods = Vec::new();
        for name in &names {
            let spec = PodSpec::new(name, "full.svid-csi", vec!["/bin/sleep", "2147483647"]);
            pods.push(scene.create(&spec).await?);
        }
        for pod in &pods {
            eventually(&format!("pod {} to run", pod.name), 5 * SOON, async || pod.wait_running().await).await?;
        }
        let taken = started.elapsed();
        for pod in &pods {
            ensure_single(scene, pod)?;
        }
        ensure!(taken < 10 * SOON, "the pods took {} s", taken.as_secs());
        throughout("the driver", Duration::from_secs(1), async || {
            ensure_verified(scene, &pods[PODS - 1].verify_files().await?)
        })
        .await
    })
    .await;
}
