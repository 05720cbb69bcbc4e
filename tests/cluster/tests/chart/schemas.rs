//! Validates manifests with the JSON schemas of Kubernetes, which contain every field, so that an unknown one is an
//! error.

use std::path::PathBuf;

use crate::helm::{TOOLS, text};

/// Kinds that come with their own definitions, which are not part of Kubernetes.
const CUSTOM: [&str; 7] =
    ["PodMonitor", "ServiceMonitor", "PrometheusRule", "ClusterIssuer", "Certificate", "ClusterSPIFFEID", "Issuer"];

/// Validates files with the schemas of these versions. Messages contain the names of the files.
pub fn check(files: &[PathBuf], versions: &[&str]) {
    let mut command = TOOLS.schema_check();
    command.arg("--strict");
    for version in versions {
        command.args(["-k", version]);
    }
    let output = command.args(files).output().expect("the check of schemas runs");
    let (said, problems) = (text(output.stdout), text(output.stderr));
    let bad: Vec<_> = said.lines().filter(|line| !line.starts_with("INFO") && !is_custom(line)).collect();
    assert!(output.status.success() && bad.is_empty(), "{}\n{problems}", bad.join("\n"));
    assert!(said.contains("INFO"), "nothing was checked: {said}");
}

fn is_custom(line: &str) -> bool {
    line.starts_with("WARN") && CUSTOM.iter().any(|kind| line.contains(&format!("for kind {kind} ")))
}
