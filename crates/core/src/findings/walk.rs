//! One pod's volume, from the driver to the identity in it: the first step that fails is the cause of the others.

use std::collections::BTreeSet;

use serde::Serialize;

use super::facts::{DriverFacts, Facts};
use super::mounts::NO_VOLUME;
use super::{Category, Finding, Report, Severity};

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
}

impl Step {
    /// Whether the volume stops here.
    pub fn stops(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Fault)
    }
}

/// Walks the volumes of a pod (`namespace/name`) to their end, or to the first step that fails.
pub fn walk(facts: &Facts, pod: &str) -> Vec<Step> {
    let mut report = Report::of(facts);
    if let Ok(driver) = &facts.driver {
        let others = of_others(driver, pod);
        report.findings.retain(|finding| !others.contains(finding.about.as_str()));
        if !driver.volumes.values().any(|volume| volume.pod.as_deref() == Some(pod)) {
            let cause = format!("none of its {} volumes is for this pod", driver.volumes.len());
            let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
            let fix = format!("kubectl describe pod -n {} {}", super::word(namespace), super::word(name));
            report.find(&NO_VOLUME, pod, cause, fix);
        }
    }
    let mut steps = Vec::new();
    for (what, categories) in STEPS {
        let findings: Vec<_> =
            report.findings.iter().filter(|finding| categories.contains(&finding.category)).cloned().collect();
        steps.push(Step { what: what.to_owned(), findings });
        if steps.last().is_some_and(Step::stops) {
            break;
        }
    }
    steps
}

/// The subjects of findings about other pods, and about driver names that the pod does not use.
fn of_others<'a>(driver: &'a DriverFacts, pod: &str) -> BTreeSet<&'a str> {
    let is_pods = |volume: &&super::facts::VolumeFacts| volume.pod.as_deref() == Some(pod);
    let used: BTreeSet<_> = driver.volumes.values().filter(is_pods).map(|volume| volume.driver.as_str()).collect();
    let volumes = driver.volumes.iter().filter(|(_, volume)| volume.pod.as_deref() != Some(pod));
    let names = driver.names.iter().map(|name| name.name.as_str());
    let names = names.filter(|name| !used.is_empty() && !used.contains(name));
    volumes.map(|(id, volume)| volume.about(id)).chain(names).collect()
}
