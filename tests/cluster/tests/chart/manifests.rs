//! The committed manifests match the chart.
//!
//! After a change to the chart: `just manifests`.

use std::fs;
use std::path::PathBuf;

use crate::helm::{self, LAYOUT, VERSIONS};
use crate::objects::Objects;
use crate::schemas;

const PROFILES: [&str; 3] = ["spire", "cert-manager", "standalone"];

/// The beginning of a manifest: Helm leaves the creation of namespaces to the user.
const HEADER: &str = "\
# svid-csi with the profile PROFILE, as its Helm chart renders it (deploy/chart/values-PROFILE.yaml).
# Do not edit: `just manifests` writes this file.
---
apiVersion: v1
kind: Namespace
metadata:
  name: svid-csi
  labels:
    # The driver's pod mounts, and is privileged for it.
    pod-security.kubernetes.io/enforce: privileged
";

fn path(profile: &str) -> PathBuf {
    LAYOUT.repo.join(format!("deploy/manifests/{profile}.yaml"))
}

/// Rendered for the oldest Kubernetes, whose fields exist in every other one.
fn rendered(profile: &str) -> String {
    let text = helm::template(VERSIONS[0], &format!("-f values-{profile}.yaml")).expect("the profile renders");
    let of_helm = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("helm.sh/chart:")
            || line.starts_with("app.kubernetes.io/managed-by:")
            || line.starts_with("# Source:")
    };
    let lines: Vec<_> = text.lines().filter(|line| !of_helm(line)).collect();
    HEADER.replace("PROFILE", profile) + &lines.join("\n") + "\n"
}

#[test]
fn committed_manifests_are_up_to_date() {
    if std::env::var_os("REGENERATE").is_some() {
        let alerts = LAYOUT.repo.join("deploy/monitoring/alerts.yaml");
        fs::copy(alerts, helm::chart().join("files/alerts.yaml")).unwrap();
        for profile in PROFILES {
            fs::create_dir_all(path(profile).parent().unwrap()).unwrap();
            fs::write(path(profile), rendered(profile)).unwrap();
        }
    }
    for profile in PROFILES {
        let committed = fs::read_to_string(path(profile)).unwrap();
        assert!(committed == rendered(profile), "deploy/manifests/{profile}.yaml is stale: run `just manifests`");
    }
}

#[test]
fn every_kubernetes_takes_them() {
    schemas::check(&PROFILES.map(path), &VERSIONS);
}

#[test]
fn everything_is_in_the_namespace_or_in_none() {
    for profile in PROFILES {
        let objects = Objects::parse(&fs::read_to_string(path(profile)).unwrap());
        assert_eq!(objects.0[0]["kind"], "Namespace");
        for object in &objects.0 {
            let namespace = &object["metadata"]["namespace"];
            assert!(namespace.is_null() || namespace == "svid-csi", "{profile}: {object}");
        }
        assert!(!objects.driver_args().is_empty());
    }
}
