//! One pod's volume, from the driver to the identity in it: the first step that fails is the cause of the others.

use serde::Serialize;

use super::facts::{DriverFacts, Facts};
use super::mounts::{NO_VOLUME, NOT_PUBLISHED};
use super::{Category, Finding, NotChecked, Report, Severity};

/// The steps, in the order in which a volume takes them.
const STEPS: [(&str, &[Category]); 7] = [
    ("the driver runs", &[Category::Driver]),
    ("the kubelet reaches the driver", &[Category::Registration]),
    ("the driver can store the volume", &[Category::Data, Category::Kernel]),
    ("the API server has what the driver needs", &[Category::Cluster]),
    ("the source issues the identity", &[Category::Source]),
    ("the volume is mounted into the pod", &[Category::Mounts]),
    ("the pod finds a valid identity", &[Category::Clock, Category::Identity]),
];

/// A step of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The condition.
    pub what: String,
    /// Why it is not, or soon may not be.
    pub findings: Vec<Finding>,
    /// Checks that were not possible: the condition is not certain.
    pub not_checked: Vec<NotChecked>,
}

impl Step {
    /// Whether the volume stops here.
    pub fn stops(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Fault)
    }
}

/// Walks the volumes of a pod (`namespace/name`) to their end, or to the first step that fails. What the pod does not use
/// does not stop it.
pub fn walk(mut facts: Facts, pod: &str) -> Vec<Step> {
    facts.driver = facts.driver.map(|driver| driver.of_pod(pod));
    let mut report = Report::of(&facts);
    if let Ok(driver) = &facts.driver {
        of_volumes(driver, pod, &mut report);
    }
    let mut steps = Vec::new();
    for (what, categories) in STEPS {
        let is_of_step = |category: Category| categories.contains(&category);
        let findings = report.findings.iter().filter(|finding| is_of_step(finding.category)).cloned().collect();
        let not_checked = report.not_checked.iter().filter(|not| is_of_step(not.category)).cloned().collect();
        steps.push(Step { what: what.to_owned(), findings, not_checked });
        if steps.last().is_some_and(Step::stops) {
            break;
        }
    }
    steps
}

/// What no other check sees, because a publish has not come to its end yet.
fn of_volumes(driver: &DriverFacts, pod: &str, report: &mut Report) {
    let failed = driver.recent.iter().find(|event| event.about == pod && event.why.is_some());
    let why = failed.and_then(|event| Some(format!("{}: {}", event.what, event.why.as_deref()?)));
    let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
    let fix = format!("kubectl describe pod -n {} {}", super::word(namespace), super::word(name));
    let mut volumes = driver.volumes.values().filter(|volume| volume.pod.as_deref() == Some(pod)).peekable();
    if volumes.peek().is_none() {
        let cause = why.unwrap_or_else(|| format!("none of its {} volumes is for this pod", driver.volumes.len()));
        return report.find(&NO_VOLUME, pod, cause, fix);
    }
    // One that waits for its source, or that the source has refused, has a finding of that step.
    let is_unexplained = |volume: &super::facts::VolumeFacts| volume.waiting.is_none() && volume.failed.is_none();
    if volumes.any(|volume| volume.phase == "intended" && is_unexplained(volume)) {
        let cause = why.unwrap_or_else(|| "the kubelet's last request has not succeeded".to_owned());
        report.find(&NOT_PUBLISHED, pod, cause, fix);
    }
}
