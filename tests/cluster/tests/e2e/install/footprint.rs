//! The resources that a driver uses on its node.

use std::fs;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use svid_csi_cluster::process;

/// The limit for the driver's pod; the predecessors' three containers take more than 80.
const MOST_MEGABYTES: f64 = 20.0;

/// Fails unless the driver's pod has one container and little memory; returns the megabytes.
pub fn ensure_small(pod: &Pod) -> Result<f64> {
    let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    ensure!(containers == 1, "the driver's pod has {containers} containers");
    let uid = pod.uid().context("the driver's pod has a UID")?;
    let own = process::find(|_| true)?.into_iter().filter(|pid| is_of_pod(*pid, &uid));
    let resident: Vec<_> = own.filter_map(resident_kilobytes).collect();
    ensure!(resident.len() >= 2, "processes of the pod, with its sandbox: {resident:?}");
    let megabytes = resident.iter().sum::<f64>() * 1.024e-3;
    ensure!(megabytes <= MOST_MEGABYTES, "the driver's pod has {megabytes:.1} MB of memory");
    Ok(megabytes)
}

/// Kubelets name the control group of a pod by its UID.
fn is_of_pod(pid: i32, uid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(uid))
}

fn resident_kilobytes(pid: i32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}
