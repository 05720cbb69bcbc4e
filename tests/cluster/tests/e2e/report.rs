//! Information about a failed test, and how long each took.
#![allow(clippy::print_stderr, reason = "the report of a failed test")]

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, LogParams};
use svid_csi::kube::cert_request::CertificateRequest;

use crate::scene::Scene;

/// Prints pods, their events and the logs of every container.
pub async fn print(scene: &Scene) {
    eprintln!("\n===== {} =====", scene.name);
    let pods: Api<Pod> = scene.api();
    let list = pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    for pod in &list {
        print_status(pod);
    }
    print_events(scene).await;
    print_requests(scene).await;
    for pod in &list {
        print_logs(&pods, pod).await;
    }
    for file in ["agent.log", "agent.err", "driver.log", "approver.log", "spire-server.log", "spire-agent.log"] {
        if let Ok(text) = std::fs::read_to_string(scene.folder.join(file)) {
            eprintln!("--- {file}\n{}", tail(&text));
        }
    }
    eprintln!("--- logs of the node: {}", scene.layout.logs().display());
}

/// Names the file to which every test appends how long it took; `tests/cluster/test` prints the table.
const DURATIONS: &str = "SVID_CSI_DURATIONS";

/// Appends how long a test took.
pub fn note_duration(scene: &Scene, taken: Duration) {
    let Some(path) = std::env::var_os(DURATIONS) else { return };
    let line = format!("{:7.1} s  {}\n", taken.as_secs_f32(), scene.name);
    let written =
        OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("cannot note how long {} took: {error}", scene.name);
    }
}

fn print_status(pod: &Pod) {
    let status = pod.status.clone().unwrap_or_default();
    let deleted = if pod.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
    eprintln!("--- pod {}: {}{deleted}", pod.name_any(), status.phase.unwrap_or_default());
    for container in status.container_statuses.unwrap_or_default() {
        let state = serde_json::to_string(&container.state).unwrap_or_default();
        eprintln!("    {}: {} restarts, {state}", container.name, container.restart_count);
    }
}

async fn print_events(scene: &Scene) {
    let events: Api<Event> = scene.api();
    let events = events.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    eprintln!("--- events");
    for event in events {
        let object = event.involved_object.name.unwrap_or_default();
        eprintln!("    {object}: {} {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default());
    }
}

/// Prints nothing on a cluster without cert-manager.
async fn print_requests(scene: &Scene) {
    let requests: Api<CertificateRequest> = scene.api();
    let Ok(list) = requests.list(&ListParams::default()).await else { return };
    eprintln!("--- certificate requests: {}", list.items.len());
    for request in list.items.iter().rev().take(12) {
        let conditions = request.status.as_ref().map(|status| &status.conditions);
        let said = conditions.into_iter().flatten().map(|one| format!("{} {}: {}", one.kind, one.status, one.message));
        eprintln!("    {} by {}: {:?}", request.name_any(), request.spec.username, said.collect::<Vec<_>>());
    }
}

async fn print_logs(pods: &Api<Pod>, pod: &Pod) {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| container.name.clone());
    for container in containers {
        for previous in [true, false] {
            let what = LogParams { container: Some(container.clone()), previous, ..LogParams::default() };
            if let Ok(log) = pods.logs(&pod.name_any(), &what).await {
                let which = if previous { " before its restart" } else { "" };
                eprintln!("--- log of {}/{container}{which}\n{}", pod.name_any(), tail(&log));
            }
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
