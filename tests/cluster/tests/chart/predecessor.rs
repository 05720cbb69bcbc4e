//! Upgrades of a release of csi-driver-spiffe's chart: its values are accepted, and immutable fields stay.

use serde_json::{Value, json};

use crate::objects::{Objects, word};
use crate::renderings::named;

const NAME: &str = "cert-manager-csi-driver-spiffe";

#[test]
fn names_and_selectors_stay() {
    let objects = Objects::rendered("");
    let approver = format!("{NAME}-approver");
    let selector = |kind: &str, name: &str| objects.one(kind, name)["spec"]["selector"].clone();
    assert_eq!(selector("DaemonSet", &format!("{NAME}-driver")), json!({"matchLabels": {"app": NAME}}));
    assert_eq!(selector("Deployment", &approver), json!({"matchLabels": {"app": approver}}));
    for (kind, name) in [
        ("ServiceAccount", NAME),
        ("ServiceAccount", &approver),
        ("ClusterRole", NAME),
        ("ClusterRole", &approver),
        ("ClusterRoleBinding", NAME),
        ("ClusterRoleBinding", &approver),
        ("Role", &approver),
        ("RoleBinding", &approver),
        ("Service", &format!("{approver}-metrics")),
    ] {
        objects.one(kind, name);
    }
}

#[test]
fn bindings_keep_their_roles() {
    let objects = Objects::rendered(named("predecessor"));
    for binding in objects.of_kind("RoleBinding").chain(objects.of_kind("ClusterRoleBinding")) {
        let role = word(&binding["kind"]).strip_suffix("Binding").unwrap();
        let kept = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": binding["metadata"]["name"]});
        assert_eq!(binding["roleRef"], kept);
    }
}

#[test]
fn attach_required_stays_unset() {
    for arguments in ["", "--set source=local-ca", "--set app.name=identities.example.org"] {
        for driver in Objects::rendered(arguments).of_kind("CSIDriver") {
            assert_eq!(driver["spec"]["attachRequired"], Value::Null, "{arguments}");
            assert_eq!(driver["spec"]["fsGroupPolicy"], Value::Null, "{arguments}");
            assert_eq!(driver["spec"]["volumeLifecycleModes"], json!(["Ephemeral"]), "{arguments}");
        }
    }
}

/// All its values, each with its effect.
#[test]
fn its_values_have_their_effect() {
    let objects = Objects::rendered(named("predecessor"));
    let driver = objects.driver_args();
    for arg in [
        "--driver-name=identity.example.org",
        "--source=cert-manager",
        "--delivery=files",
        "--log-level=4",
        "--certificate-request-duration=2h",
        "--trust-domain=example.org",
        "--issuer-name=example",
        "--issuer-kind=Issuer",
        "--issuer-group=example.cert-manager.io",
        "--runtime-issuance-config-map-name=runtime-issuer",
        "--runtime-issuance-config-map-namespace=svid-csi",
        "--extra-certificate-request-annotations=app=csi,team=identity",
        "--source-ca-bundle=/var/run/secrets/roots/ca.crt",
        "--require-chain=false",
        "--file-name-certificate=cert.pem",
        "--file-name-key=key.pem",
        "--file-name-ca=ca.pem",
        "--request-mode=own",
        "--data-root=/data",
        "--metrics-address=0.0.0.0:9810",
    ] {
        assert!(driver.contains(&arg), "{arg} is not in {driver:?}");
    }
    let approver = objects.approver_args();
    for arg in [
        "--csi-driver-name=identity.example.org",
        "--auto-approve-non-spiffe",
        "--request-mode=own",
        "--driver-service-account=system:serviceaccount:svid-csi:cert-manager-csi-driver-spiffe",
        "--metrics-bind-address=:9403",
        "--readiness-probe-bind-address=:6061",
    ] {
        assert!(approver.contains(&arg), "{arg} is not in {approver:?}");
    }
}

#[test]
fn its_values_reach_the_pods() {
    let objects = Objects::rendered(named("predecessor"));
    let pods: Vec<_> = objects.pods().collect();
    for pod in &pods {
        assert_eq!(pod["priorityClassName"], "important");
        assert_eq!(pod["nodeSelector"], json!({"disk": "ssd"}));
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
        let terms = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let expressions = &terms["nodeSelectorTerms"][0]["matchExpressions"];
        assert_eq!(*expressions, json!([{"key": "example.org/role", "operator": "In", "values": ["apps"]}]));
        let tolerations = pod["tolerations"].as_array().unwrap();
        assert!(tolerations.contains(&json!({"key": "dedicated", "operator": "Exists"})));
    }
    let driver = pods[0];
    let volumes = driver["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["hostPath"]["path"] == "/tmp/cert-manager-csi-driver"));
    assert!(volumes.iter().any(|volume| volume["secret"]["secretName"] == "roots"));
    assert_eq!(driver["containers"][0]["resources"]["limits"]["memory"], "128Mi");
    assert_eq!(pods[1]["topologySpreadConstraints"][0]["maxSkew"], 2);
    let deployment = objects.one("Deployment", "cert-manager-csi-driver-spiffe-approver");
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(deployment["metadata"]["labels"]["team"], "identity");
    let monitor = objects.one("ServiceMonitor", "cert-manager-csi-driver-spiffe-approver");
    assert_eq!(monitor["metadata"]["labels"]["prometheus"], "main");
    let role = objects.one("ClusterRole", NAME);
    assert!(role.to_string().contains("securitycontextconstraints"));
}

/// Its driver delivers certificates that do not chain to its bundle. A bundle from the cluster is a setting of svid-csi.
#[test]
fn only_its_own_bundle_leaves_chains_unchecked() {
    let lenient = |arguments: &str| Objects::rendered(arguments).driver_args().contains(&"--require-chain=false");
    assert!(lenient("--set app.driver.sourceCABundle=/roots/ca.crt"));
    for strict in ["", "--set trustBundle=configmap:a/b/ca.crt", "-f values-cert-manager.yaml"] {
        assert!(!lenient(strict), "{strict}");
    }
}

#[test]
fn a_name_of_its_own_if_requested() {
    let objects = Objects::rendered("--set nameOverride=svid-csi");
    objects.one("DaemonSet", "svid-csi-driver");
    objects.one("Deployment", "svid-csi-approver");
}
