//! Kubernetes accepts every rendering, and its parts fit together.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{self, VERSIONS};
use crate::objects::{Objects, containers, word};
use crate::renderings::ALL;
use crate::schemas;

#[test]
fn lint_finds_nothing() {
    for profile in ["values.yaml", "values-spire.yaml", "values-cert-manager.yaml", "values-standalone.yaml"] {
        let output = helm::run(&["lint", ".", "--strict", "--kube-version", "1.37.0", "-f", profile], "");
        let said = helm::text(output.stdout) + &helm::text(output.stderr);
        assert!(output.status.success(), "{profile}: {said}");
    }
}

#[test]
fn schemas_of_every_kubernetes_accept_it() {
    let folder = tempfile::tempdir().unwrap();
    for version in VERSIONS {
        let render = |(name, arguments): &(&str, &str)| {
            let rendered = helm::template(version, arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
            let file = folder.path().join(format!("{name} {version}.yaml"));
            std::fs::write(&file, rendered).unwrap();
            file
        };
        let files: Vec<_> = ALL.iter().map(render).collect();
        schemas::check(&files, &[version]);
    }
}

#[test]
fn older_kubernetes_is_refused() {
    let error = helm::template("1.29", "").unwrap_err();
    assert!(error.contains("chart requires kubeVersion: >=1.30.0-0"), "{error}");
}

#[test]
fn one_container_per_node() {
    for (name, arguments) in ALL {
        let objects = Objects::rendered(arguments);
        let drivers: Vec<_> = objects.of_kind("DaemonSet").chain(objects.of_kind("Pod")).collect();
        assert_eq!(drivers.len(), 1, "{name}");
        let pod = objects.pods().next().unwrap();
        assert_eq!(containers(pod).count(), 1, "{name}");
        assert!(pod["initContainers"].is_null(), "{name}");
    }
}

/// Volumes of ending pods can be unmounted only while the driver runs.
#[test]
fn the_driver_outlives_the_pods_of_its_node() {
    for (name, arguments) in ALL {
        let objects = Objects::rendered(arguments);
        let mut pods = objects.of_kind("DaemonSet").map(|set| &set["spec"]["template"]).chain(objects.of_kind("Pod"));
        let pod = pods.next().expect("a pod of the driver");
        let eviction = "cluster-autoscaler.kubernetes.io/enable-ds-eviction";
        assert_eq!(pod["metadata"]["annotations"][eviction], "false", "{name}");
        let asked_for = arguments.contains("priorityClassName=important") || *name == "predecessor";
        let class = if asked_for { "important" } else { "system-node-critical" };
        assert_eq!(pod["spec"]["priorityClassName"], class, "{name}");
    }
    let own = r"--set-string app.driver.podAnnotations.cluster-autoscaler\.kubernetes\.io/enable-ds-eviction=true";
    assert!(!helm::template("1.37", own).unwrap().contains("enable-ds-eviction: \"false\""), "values win");
}

/// The driver tolerates every taint, but such nodes have no folders to share with it.
#[test]
fn the_driver_keeps_off_nodes_whose_pods_run_elsewhere() {
    let affinity =
        |arguments: &str| Objects::rendered(arguments).pods().map(|pod| pod["affinity"].clone()).collect::<Vec<_>>();
    let terms = |affinity: &Value| {
        affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"].clone()
    };
    let elsewhere = json!([{"matchExpressions": [
        {"key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"]},
        {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]},
    ]}]);
    let [driver, approver] = &affinity("")[..] else { panic!("two pods") };
    assert_eq!((terms(driver), approver), (elsewhere.clone(), &Value::Null));
    let [driver, approver] = &affinity("--set affinity.podAffinity.a=b")[..] else { panic!("two pods") };
    assert_eq!((terms(driver), &driver["podAffinity"]), (elsewhere, &approver["podAffinity"]));
    let term = "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key=a";
    let own = json!([{"matchFields": [{"key": "a"}]}]);
    assert_eq!(affinity(&format!("--set affinity.{term}")).iter().map(terms).collect::<Vec<_>>(), [own.clone(), own]);
    assert_eq!(affinity("--set app.driver.affinity=null")[0], Value::Null);
}

#[test]
fn every_container_is_confined_as_far_as_possible() {
    for (name, arguments) in ALL {
        for pod in Objects::rendered(arguments).pods() {
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            for container in containers(pod) {
                let context = &container["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
                let is_driver = container["name"] == "driver";
                assert_eq!(context["privileged"] == true, is_driver, "{name}");
                assert_eq!(context["allowPrivilegeEscalation"] == false, !is_driver, "{name}");
                assert_eq!(pod["securityContext"]["runAsNonRoot"] == true, !is_driver, "{name}");
            }
        }
    }
}

#[test]
fn every_mounted_volume_exists() {
    for (name, arguments) in ALL {
        for pod in Objects::rendered(arguments).pods() {
            let all = |list: &Value| list.as_array().cloned().unwrap_or_default();
            let volumes = all(&pod["volumes"]);
            let named: BTreeSet<_> = volumes.iter().map(|volume| word(&volume["name"])).collect();
            assert_eq!(named.len(), volumes.len(), "{name}: two volumes have one name");
            let mounts: Vec<_> = containers(pod).flat_map(|container| all(&container["volumeMounts"])).collect();
            let used: BTreeSet<_> = mounts.iter().map(|mount| word(&mount["name"])).collect();
            assert_eq!(used, named, "{name}: mounts and volumes");
            let paths: BTreeSet<_> = mounts.iter().map(|mount| word(&mount["mountPath"])).collect();
            assert_eq!(paths.len(), mounts.len(), "{name}: two mounts at one path");
        }
    }
}

#[test]
fn probes_use_the_addresses_of_the_flags() {
    for (name, arguments) in ALL {
        let objects = Objects::rendered(arguments);
        let asked = |address: &str, flag: &str, args: &[&str]| {
            let port = address.rsplit(':').next().unwrap().to_owned();
            assert!(args.contains(&format!("{flag}={address}").as_str()), "{name}: {args:?}");
            port
        };
        let driver = objects.pods().flat_map(containers).find(|container| container["name"] == "driver").unwrap();
        let port = driver["ports"][0]["containerPort"].to_string();
        let address = if *name == "IPv6 alone" { format!("[::]:{port}") } else { format!("0.0.0.0:{port}") };
        assert_eq!(asked(&address, "--metrics-address", &objects.driver_args()), port);
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            assert_eq!(driver[probe]["httpGet"], json!({"path": path, "port": "metrics"}), "{name}");
        }
    }
}

#[test]
fn csi_drivers_have_the_fields_that_their_plans_need() {
    let spec = |name: &str, arguments: &str, kubernetes: &str| {
        let objects = Objects::rendered_for(kubernetes, arguments);
        let driver = objects.one("CSIDriver", name).clone();
        for whose in ["kubernetes", "openshift"] {
            let label = format!("security.{whose}.io/csi-ephemeral-volume-profile");
            assert_eq!(driver["metadata"]["labels"][label], "restricted");
        }
        driver["spec"].clone()
    };
    let passthrough = json!({"attachRequired": false, "fsGroupPolicy": "None", "podInfoOnMount": true,
        "volumeLifecycleModes": ["Ephemeral"]});
    assert_eq!(spec("csi.spiffe.io", "-f values-spire.yaml", "1.37"), passthrough);
    assert_eq!(spec("csi.spiffe.io", "-f values-standalone.yaml", "1.37"), passthrough);
    assert_eq!(spec("csi.spiffe.io", "--set alsoServe=csi.spiffe.io", "1.37"), passthrough);
    let tokens = json!([{"audience": "", "expirationSeconds": 3600}]);
    let pods_ask = json!({"podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"], "requiresRepublish": true,
        "tokenRequests": tokens});
    assert_eq!(spec("spiffe.csi.cert-manager.io", "", "1.37"), pods_ask);
    let auto = "--set serviceAccountTokenInSecrets=auto";
    assert_eq!(spec("spiffe.csi.cert-manager.io", auto, "1.34"), pods_ask);
    let mut in_secrets = pods_ask;
    in_secrets["serviceAccountTokenInSecrets"] = json!(true);
    assert_eq!(spec("spiffe.csi.cert-manager.io", auto, "1.35"), in_secrets);
    assert_eq!(
        spec("spiffe.csi.cert-manager.io", "-f values-cert-manager.yaml", "1.37"),
        json!({"podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"], "requiresRepublish": true})
    );
}
