//! The logs of drivers and approvers, which only the API server has.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};

use super::archive::Contents;
use crate::cluster::{Cluster, patiently};
use crate::drivers::DriverPod;

/// The last lines of each log.
const LINES: i64 = 20_000;
/// The most of them, in bytes, that the API server sends.
const BYTES: i64 = 8 * 1024 * 1024;
/// The most approvers in each namespace.
const APPROVERS: u32 = 5;

/// Adds the logs of these drivers, and of the approvers beside them.
pub(super) async fn collect(cluster: &Cluster, drivers: &[DriverPod], approvers: &str, contents: &mut Contents) {
    for driver in drivers {
        let pod = (driver.namespace.as_str(), driver.name.as_str());
        add(cluster, pod, Some(&driver.container), &driver.node, contents).await;
    }
    for namespace in drivers.iter().map(|driver| &driver.namespace).collect::<BTreeSet<_>>() {
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let params = ListParams::default().labels(approvers).limit(APPROVERS);
        match patiently(cluster.node_deadline(), async || pods.list(&params).await).await {
            Ok(found) => {
                for name in found.items.into_iter().filter_map(|pod| pod.metadata.name) {
                    add(cluster, (namespace, &name), None, "approver", contents).await;
                }
            }
            Err(why) => contents.leave_out(&format!("the logs of approvers in namespace {namespace}"), &why),
        }
    }
}

async fn add(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    container: Option<&str>,
    folder: &str,
    contents: &mut Contents,
) {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    for previous in [false, true] {
        let params = LogParams {
            container: container.map(str::to_owned),
            previous,
            tail_lines: Some(LINES),
            limit_bytes: Some(BYTES),
            timestamps: true,
            ..LogParams::default()
        };
        match patiently(cluster.node_deadline(), async || pods.logs(name, &params).await).await {
            Ok(log) if previous => contents.add_log(folder, &format!("{name}-before-its-restart"), &log),
            Ok(log) => contents.add_log(folder, name, &log),
            // A container that was never restarted has no earlier log.
            Err(why) if previous && why.contains("previous terminated container") => {}
            Err(why) => {
                let which = if previous { " before its restart" } else { "" };
                contents.leave_out(&format!("the log of pod {namespace}/{name}{which}"), &why);
            }
        }
    }
}
