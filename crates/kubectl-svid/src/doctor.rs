//! `kubectl svid doctor`.

mod groups;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use svid_csi_core::findings::Check;
use svid_csi_core::quoted::ascii_json;

use crate::arguments::DoctorArguments;
use crate::cluster::Cluster;
use crate::drivers::{self, DriverPod};
use crate::everywhere::{self, Answers};
use crate::exec::Ended;
use crate::{pods, printing, renew};

/// The answer of `svid-csi doctor --output json`. Drivers of other versions may have findings that are not known here.
#[derive(Debug, Serialize, Deserialize)]
struct NodeExamination {
    /// The node, according to the API server.
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    driver_version: Option<String>,
    findings: Vec<NodeFinding>,
    #[serde(default)]
    not_checked: Vec<NotChecked>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NodeFinding {
    id: String,
    severity: String,
    about: String,
    cause: String,
    fix: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct NotChecked {
    what: String,
    why: String,
}

/// Examines all nodes, one node, a pod, or two pods.
pub(crate) async fn run(cluster: &Cluster, options: &DoctorArguments) -> Result<ExitCode> {
    let mut words = vec!["doctor"];
    if let Some(at) = &options.at {
        words.extend(["--at", at]);
    }
    if options.json {
        words.extend(["--output", "json"]);
    }
    if let Some(pod) = options.pod.as_ref().or(options.pod_flag.as_ref()) {
        let pod = pods::find(cluster, pod).await?;
        words.extend(["--pod", &pod.name]);
        return renew::on_each(cluster, &pod.drivers, &words).await;
    }
    if let Some((from, to)) = options.from.as_ref().zip(options.to.as_ref()) {
        let (from, to) = (pods::find(cluster, from).await?, pods::find(cluster, to).await?);
        ensure!(
            from.node == to.node,
            "{} is on node {} and {} on node {}: a driver knows the pods of its own node only",
            from.name,
            from.node,
            to.name,
            to.node
        );
        words.extend(["--from", &from.name, "--to", &to.name]);
        return renew::on_each(cluster, &from.drivers, &words).await;
    }
    if let Some(node) = &options.node {
        return renew::on_each(cluster, &drivers::find(cluster, Some(node)).await?, &words).await;
    }
    if !options.json {
        words.extend(["--output", "json"]);
    }
    everyone(cluster, options, &words).await
}

async fn everyone(cluster: &Cluster, options: &DoctorArguments, words: &[&str]) -> Result<ExitCode> {
    let drivers = drivers::find(cluster, None).await?;
    let answers = everywhere::ask(cluster, drivers, words, read).await;
    if options.json {
        let all = json!({"nodes": answers.answered, "unanswered": answers.unanswered});
        printing::write(&ascii_json(&format!("{all:#}\n")))?;
    } else {
        printing::write(&groups::text(&answers, printing::is_coloured()))?;
    }
    Ok(ExitCode::from(worst(&answers)))
}

fn read(driver: &DriverPod, ended: Ended) -> Result<NodeExamination, String> {
    match serde_json::from_slice(&ended.stdout) {
        Ok(examination) => Ok(NodeExamination { node: Some(driver.node.clone()), ..examination }),
        Err(_) if !ended.stderr.is_empty() => Err(ended.complaint()),
        Err(error) => Err(format!("half an answer, or another program's: {error}")),
    }
}

fn worst(answers: &Answers<NodeExamination>) -> u8 {
    let findings = || answers.answered.iter().flat_map(|answer| &answer.findings);
    match () {
        () if !answers.unanswered.is_empty() => 2,
        () if findings().any(|finding| finding.severity != groups::WARNING) => 2,
        () if findings().next().is_some() => 1,
        () => 0,
    }
}

/// Explains a check, without asking anyone.
pub(crate) fn explain(check: &Check) -> Result<ExitCode> {
    let Check { id, category, title, explanation, .. } = check;
    printing::write(&format!("{id} (category {category})\n\n{title}\n\n{explanation}\n"))?;
    Ok(ExitCode::SUCCESS)
}
