//! The volume of a pod, from the view of the host.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use svid_csi_cluster::mounts;

use crate::pods::TestPod;
use crate::scene::Scene;

/// The path at which the kubelet has mounted the volume of a test pod.
pub fn target(scene: &Scene, pod: &TestPod<'_>) -> PathBuf {
    scene.kubelet().join("pods").join(&pod.uid).join("volumes/kubernetes.io~csi/identity/mount")
}

/// Fails unless the pod's target has exactly one mount, because a second one would hide the first.
pub fn ensure_single(scene: &Scene, pod: &TestPod<'_>) -> Result<()> {
    let count = mounts::count_on(&target(scene, pod))?;
    ensure!(count == 1, "{count} mounts lie on the volume of {}", pod.name);
    Ok(())
}

/// Fails if anything is left of the pod's target.
pub fn ensure_gone(scene: &Scene, pod: &TestPod<'_>) -> Result<()> {
    let target = target(scene, pod);
    ensure!(mounts::count_on(&target)? == 0, "{} is still mounted", target.display());
    ensure!(!target.exists(), "{} is left", target.display());
    Ok(())
}
