//! The logs of drivers and approvers, which only the API server has.

use std::collections::BTreeSet;

use futures::{AsyncReadExt, StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use tokio::time::timeout_at;

use super::archive::Contents;
use crate::cluster::{Cluster, patiently};
use crate::drivers::{DEFAULT_CONTAINER, DriverPod};

/// The last lines of each log.
const LINES: i64 = 20_000;
/// How many bytes of its end are kept until it is redacted.
const KEPT: usize = 4 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;
/// How many logs are read at a time.
const AT_ONCE: usize = 8;
/// The most approvers in each namespace.
const APPROVERS: u32 = 5;

/// A log of a pod.
struct Log {
    namespace: String,
    pod: String,
    container: Option<String>,
    /// Where it is in the archive.
    folder: String,
    /// Whether it is that of the container before its restart.
    is_previous: bool,
}

/// What a log says, or why it cannot be read.
pub(super) struct FoundLog(Log, Result<String, String>);

impl FoundLog {
    /// Adds it to the archive, or the reason why it is missing.
    pub(super) fn add_to(self, contents: &mut Contents) {
        let Self(Log { namespace, pod, folder, is_previous, .. }, text) = self;
        match text {
            Ok(text) if is_previous => contents.add_log(&folder, &format!("{pod}-before-its-restart"), &text),
            Ok(text) => contents.add_log(&folder, &pod, &text),
            // A container that was never restarted has no earlier log.
            Err(why) if is_previous && why.contains("previous terminated container") => {}
            Err(why) => {
                let which = if is_previous { " before its restart" } else { "" };
                contents.leave_out(&format!("the log of pod {namespace}/{pod}{which}"), &why);
            }
        }
    }
}

/// The logs of these drivers, and of the approvers beside them; also why approvers cannot be found.
pub(super) async fn collect(
    cluster: &Cluster,
    drivers: &[DriverPod],
    approvers: &str,
) -> (Vec<FoundLog>, Vec<(String, String)>) {
    let (mut logs, mut missing) = (Vec::new(), Vec::new());
    for driver in drivers {
        logs.extend(both(&driver.namespace, &driver.name, Some(&driver.container), &driver.node));
    }
    for namespace in drivers.iter().map(|driver| &driver.namespace).collect::<BTreeSet<_>>() {
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let params = ListParams::default().labels(approvers).limit(APPROVERS);
        match patiently(cluster.node_deadline(), async || pods.list(&params).await).await {
            Ok(found) => {
                for pod in found.items {
                    let Some(name) = pod.metadata.name.as_deref() else { continue };
                    logs.extend(both(namespace, name, container(&pod), "approver"));
                }
            }
            Err(why) => missing.push((format!("the logs of approvers in namespace {namespace}"), why)),
        }
    }
    let read = logs.into_iter().map(async |log| {
        let text = read(cluster, &log).await;
        FoundLog(log, text)
    });
    (stream::iter(read).buffered(AT_ONCE).collect().await, missing)
}

fn both(namespace: &str, pod: &str, container: Option<&str>, folder: &str) -> [Log; 2] {
    [false, true].map(|is_previous| Log {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.map(str::to_owned),
        folder: folder.to_owned(),
        is_previous,
    })
}

/// The container that is meant if none is named: others may have been added to the pod.
fn container(pod: &Pod) -> Option<&str> {
    let default = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DEFAULT_CONTAINER));
    let first = pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| &container.name);
    default.or(first).map(String::as_str)
}

async fn read(cluster: &Cluster, log: &Log) -> Result<String, String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &log.namespace);
    let params = LogParams {
        container: log.container.clone(),
        previous: log.is_previous,
        tail_lines: Some(LINES),
        timestamps: true,
        ..LogParams::default()
    };
    let deadline = cluster.node_deadline();
    let mut stream = patiently(deadline, async || pods.log_stream(&log.pod, &params).await).await?;
    let (mut end, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    let reading = async {
        loop {
            match stream.read(&mut chunk).await.map_err(|error| error.to_string())? {
                0 => return Ok::<_, String>(()),
                read => end.extend_from_slice(&chunk[..read]),
            }
            if end.len() > 2 * KEPT {
                end.drain(..end.len() - KEPT);
            }
        }
    };
    timeout_at(deadline, reading).await.map_err(|_| "it did not arrive in time".to_owned())??;
    Ok(String::from_utf8_lossy(&end[end.len().saturating_sub(KEPT)..]).into_owned())
}
