//! The examples: Kubernetes accepts them, and they match the manifests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::helm::{LAYOUT, VERSIONS};
use crate::objects::{Objects, containers, word};
use crate::schemas;

fn examples() -> PathBuf {
    LAYOUT.repo.join("deploy/examples")
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") && !path.ends_with("values.yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn parse(path: &Path) -> Objects {
    Objects::parse(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn manifest(profile: &str) -> Objects {
    parse(&LAYOUT.repo.join(format!("deploy/manifests/{profile}.yaml")))
}

#[test]
fn every_kubernetes_takes_them() {
    let files = yaml_files(&examples());
    assert!(files.len() >= 7, "{files:?}");
    // Objects of other projects are not checked here, but each file must contain others.
    let own: Vec<_> = files.into_iter().filter(|file| !file.ends_with("spire/clusterspiffeid.yaml")).collect();
    schemas::check(&own, &VERSIONS);
}

#[test]
fn pods_use_a_driver_that_the_manifests_install() {
    for profile in ["spire", "cert-manager", "standalone"] {
        let served = manifest(profile);
        let mut asked = 0;
        for file in yaml_files(&examples().join(profile)) {
            for pod in parse(&file).pods() {
                for volume in pod["volumes"].as_array().into_iter().flatten().filter(|volume| !volume["csi"].is_null())
                {
                    served.one("CSIDriver", word(&volume["csi"]["driver"]));
                    assert_eq!(volume["csi"]["readOnly"], true, "{}", file.display());
                    asked += 1;
                }
            }
        }
        assert!(asked > 0, "{profile}");
    }
}

#[test]
fn workloads_are_allowed_in_restricted_namespaces() {
    for file in yaml_files(&examples()).iter().filter(|file| !file.ends_with("spire/agent.yaml")) {
        for pod in parse(file).pods() {
            let (own, name) = (&pod["securityContext"], file.display());
            assert_eq!(own["runAsNonRoot"], true, "{name}");
            assert_eq!(own["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            for container in containers(pod) {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(context["capabilities"]["drop"][0], "ALL", "{name}");
            }
        }
    }
}

#[test]
fn the_agent_listens_where_the_driver_looks() {
    let agent = parse(&examples().join("spire/agent.yaml"));
    let pod = agent.pods().next().unwrap();
    let of_agent = |volume: &&serde_json::Value| volume["name"] == "sockets";
    let folder = pod["volumes"].as_array().unwrap().iter().find(of_agent).unwrap()["hostPath"]["path"].clone();
    let driver = manifest("spire");
    let mounted = driver.pods().next().unwrap()["volumes"].as_array().unwrap().iter();
    let parent = mounted.map(|volume| word(&volume["hostPath"]["path"])).find(|path| word(&folder).starts_with(path));
    let below = word(&folder).strip_prefix(parent.unwrap()).unwrap();
    let flag = format!("--workload-api-socket-dir=/agent{below}");
    assert!(driver.driver_args().contains(&flag.as_str()), "{flag}");
}

#[test]
fn the_issuer_is_the_configured_one() {
    let issuer = parse(&examples().join("cert-manager/issuer.yaml"));
    let asked = manifest("cert-manager");
    let name = asked.driver_args().into_iter().find_map(|arg| arg.strip_prefix("--issuer-name=")).unwrap().to_owned();
    issuer.one("ClusterIssuer", &name);
}
