//! What the driver says about itself, and what is wrong with it.

use http::StatusCode;
use serde_json::{Value, json};
use svid_csi_core::findings::facts::{DriverFacts, Facts};
use svid_csi_core::findings::volume_state::VolumeState;
use svid_csi_core::findings::{Category, Report};
use svid_csi_core::redact::Keep;

use super::archive::Contents;
use super::{ReportOptions, bounded_json};
use crate::doctor::{DoctorOptions, Examined, Output, Scope, print, status};
use crate::node::admin::client;
use crate::telemetry::report;

pub(super) async fn add(contents: &mut Contents, options: &ReportOptions, facts: &Facts) {
    let found = Report::of(facts);
    contents.add("findings.json", "what `svid-csi doctor --output json` finds", &findings(facts, &found), Keep::Start);
    let text = print::result(&of_doctor(options), facts, &Examined::Node(found), false);
    contents.add("findings.txt", "what `svid-csi doctor` prints", &text, Keep::Start);
    if let Ok(driver) = &facts.driver {
        let mut status = status::all(driver, facts.now);
        let volumes = match status["volumes"].take() {
            Value::Array(volumes) => volumes,
            _ => Vec::new(),
        };
        if let Some(status) = status.as_object_mut() {
            status.remove("volumes");
        }
        let status = bounded_json::with_list(&status, "volumes", volumes);
        contents.add("status.json", "what `svid-csi status --json` shows, the worst first", &status, Keep::Start);
        contents.add("facts.json", "the driver's own account", &of_driver(driver, facts), Keep::Start);
    }
    let metrics = metrics(options).await;
    contents.add_found("metrics.txt", "the driver's metrics", metrics);
}

fn of_doctor(options: &ReportOptions) -> DoctorOptions {
    DoctorOptions {
        socket: options.socket.clone(),
        categories: Category::ALL.to_vec(),
        output: Output::Table,
        wait: std::time::Duration::ZERO,
        shift: None,
        kubeconfig: None,
        scope: Scope::Node,
    }
}

fn findings(facts: &Facts, found: &Report) -> String {
    let driver = facts.driver.as_ref().ok();
    let head = json!({
        "node": driver.map(|driver| &driver.node), "driver_version": driver.map(|driver| &driver.version),
        "worst": found.worst(), "not_checked": found.not_checked,
    });
    let mut faults: Vec<_> = found.findings.iter().collect();
    faults.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    bounded_json::with_list(&head, "findings", faults.into_iter().map(|finding| json!(finding)))
}

/// `/facts`, with the volumes as a list, the worst first.
fn of_driver(driver: &DriverFacts, facts: &Facts) -> String {
    let mut volumes: Vec<_> = driver.volumes.iter().collect();
    volumes.sort_by_key(|(_, volume)| VolumeState::of(volume, facts.now).0);
    let volumes = volumes.into_iter().map(|(id, volume)| {
        let mut volume = json!(volume);
        volume["id"] = json!(id);
        volume
    });
    let mut head = json!(driver);
    if let Some(head) = head.as_object_mut() {
        head.remove("volumes");
    }
    bounded_json::with_list(&head, "volumes", volumes)
}

async fn metrics(options: &ReportOptions) -> Result<String, String> {
    match client::get(&options.socket, "/metrics").await {
        Ok((StatusCode::OK, page)) => Ok(String::from_utf8_lossy(&page).into_owned()),
        Ok((StatusCode::NOT_FOUND, _)) => Err("the driver is older than this program".to_owned()),
        Ok((status, _)) => Err(format!("the driver responded with {status}")),
        Err(error) => Err(report::chain(&error)),
    }
}
