//! The node itself, without any driver: pods run, and the features that a driver needs work.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::json;
use svid_csi_cluster::node::Runtime;
use svid_csi_cluster::tools::{self, Tools};
use svid_csi_cluster::{images, mounts};

use crate::pods::{PodSpec, TestPod};
use crate::scene::{Scene, play};

#[tokio::test]
async fn a_mount_made_in_a_privileged_pod_reaches_the_host() {
    play("e2e-harness", async |scene: &Scene| {
        let shared = scene.folder.join("shared");
        let pod = privileged(scene, &shared).await?;
        pod.wait_running().await?;
        pod.exec(&["mkdir", "/shared/tmp"]).await?;
        pod.exec(&["mount", "-t", "tmpfs", "tmpfs", "/shared/tmp"]).await?;
        ensure!(mounts::count_on(&shared.join("tmp"))? == 1, "the host does not see the mount");
        let failed = pod.exec(&["false"]).await;
        ensure!(failed.is_err(), "a failed command passes for a success");
        Ok(())
    })
    .await;
}

async fn privileged<'a>(scene: &'a Scene, shared: &Path) -> Result<TestPod<'a>> {
    let container = json!({
        "name": "main",
        "image": images::BUSYBOX,
        "imagePullPolicy": "Never",
        "securityContext": {"privileged": true},
        "volumeMounts": [{"name": "shared", "mountPath": "/shared", "mountPropagation": "Bidirectional"}],
    });
    let volume = json!({"name": "shared", "hostPath": {"path": shared, "type": "DirectoryOrCreate"}});
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "privileged"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [volume]},
    }))?;
    let pod = scene.api().create(&PostParams::default(), &pod).await?;
    Ok(scene.known(&pod.name_any(), &pod.uid().context("a created pod has a UID")?))
}

/// Only with Debian's runc do mounts stay read-only by themselves, so tests with that one alone would prove nothing.
#[tokio::test]
async fn pods_are_run_by_the_current_runc_or_by_debians() {
    play("e2e-runtimes", async |scene: &Scene| {
        for runtime in Runtime::ALL {
            let spec = PodSpec { runtime, ..PodSpec::idle(runtime.name()) };
            let pod = scene.run(&spec).await?;
            ensure!(runs(&runtime.containers(&scene.layout), &pod)?, "{runtime:?} does not run the pod");
            let version = version(runtime, scene)?;
            let expected = match runtime {
                Runtime::Default => version >= [1, 3],
                Runtime::Debian => version < [1, 2],
            };
            ensure!(expected, "{runtime:?} is of version {version:?}");
        }
        Ok(())
    })
    .await;
}

/// Whether a runtime with its state in that folder has a container of the pod.
fn runs(containers: &Path, pod: &TestPod<'_>) -> Result<bool> {
    let known = fs::read_dir(containers).with_context(|| format!("cannot list {}", containers.display()))?;
    let mut states = known.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("state.json")).ok());
    Ok(states.any(|state| state.contains(&pod.uid)))
}

/// Its major and minor version.
fn version(runtime: Runtime, scene: &Scene) -> Result<[u32; 2]> {
    let program = runtime.program(&Tools::new(&scene.layout))?;
    let said = tools::version_of(program.to_str().context("an odd path")?, "--version")?;
    let numbers = said.split_whitespace().nth(2).and_then(|version| {
        let mut numbers = version.split('.').map(|number| number.parse().ok());
        Some([numbers.next()??, numbers.next()??])
    });
    numbers.with_context(|| format!("{} says {said:?}", program.display()))
}
