//! Network policies and monitoring.

use serde_json::json;

use crate::helm::LAYOUT;
use crate::objects::Objects;
use crate::renderings::named;

#[test]
fn a_driver_without_an_api_server_may_connect_nowhere() {
    let objects = Objects::rendered(named("policies without an API server"));
    let policy = &objects.one("NetworkPolicy", "svid-csi-driver")["spec"];
    assert_eq!(policy["egress"], json!([]));
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["podSelector"]["matchLabels"], json!({"app": "svid-csi"}));
}

#[test]
fn others_may_reach_the_api_server() {
    let objects = Objects::rendered(named("everything on"));
    for name in ["svid-csi-driver", "svid-csi-approver"] {
        let policy = &objects.one("NetworkPolicy", name)["spec"];
        assert_eq!(policy["egress"][0]["ports"][1], json!({"port": 6443, "protocol": "TCP"}), "{name}");
    }
}

#[test]
fn a_driver_may_reach_the_broker_over_tcp() {
    let broker = "-f values-spire.yaml --set source=broker,broker.address=[fd00::1]:8443,networkPolicy.enabled=true";
    let ports = json!([{"port": 8443, "protocol": "TCP"}]);
    let driver = |arguments: &str| {
        let objects = Objects::rendered(arguments);
        objects.one("NetworkPolicy", "svid-csi-driver")["spec"]["egress"].clone()
    };
    assert_eq!(driver(broker)[2]["ports"], ports);
    assert_eq!(driver(&format!("{broker},staticPod=true")), json!([{"ports": ports}]));
    let unused = "-f values-spire.yaml --set broker.address=10.0.0.1:8443,networkPolicy.enabled=true";
    assert_eq!(driver(unused), json!([]));
}

#[test]
fn the_alerts_are_those_of_the_repository() {
    let folder = LAYOUT.repo.join("deploy");
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    assert_eq!(read("monitoring/alerts.yaml"), read("chart/files/alerts.yaml"), "run `just manifests`");
    let arguments = "-f values-spire.yaml --set prometheusRule.enabled=true,prometheusRule.expiresSoonSeconds=60";
    let rendered = Objects::rendered(arguments);
    let rule = rendered.one("PrometheusRule", "svid-csi").to_string();
    assert!(rule.contains("svid_csi_soonest_expiry_seconds < 60\""), "{rule}");
    assert!(rule.contains("{{ $labels.instance }}"), "{rule}");
    assert!(!rule.contains("svid-csi-approver"), "there is none");
    let with_approver = Objects::rendered(named("everything on"));
    assert!(with_approver.one("PrometheusRule", "svid-csi").to_string().contains("svid-csi-approver"));
}

#[test]
fn the_dashboard_is_that_of_the_repository() {
    let arguments = "-f values-spire.yaml --set dashboard.enabled=true,dashboard.annotations.grafana_folder=Identity";
    let rendered = Objects::rendered(arguments);
    let map = rendered.one("ConfigMap", "svid-csi-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(map["metadata"]["annotations"], json!({"grafana_folder": "Identity"}));
    let committed = std::fs::read_to_string(LAYOUT.repo.join("deploy/monitoring/dashboard.json")).unwrap();
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parse(map["data"]["svid-csi.json"].as_str().unwrap()), parse(&committed));
    assert!(Objects::rendered("-f values-spire.yaml").get("ConfigMap", "svid-csi-dashboard").is_none());
}

#[test]
fn monitors_select_the_pods() {
    let objects = Objects::rendered(named("everything on"));
    let monitor = objects.one("PodMonitor", "svid-csi-driver");
    let template = &objects.one("DaemonSet", "svid-csi-driver")["spec"]["template"];
    assert_eq!(monitor["spec"]["selector"]["matchLabels"]["app"], template["metadata"]["labels"]["app"]);
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], "metrics");
}

#[test]
fn several_approvers_are_kept_apart_and_up() {
    let objects = Objects::rendered(named("cert-manager"));
    let approver = objects.one("Deployment", "svid-csi-approver");
    assert_eq!(approver["spec"]["replicas"], 2);
    let budget = objects.one("PodDisruptionBudget", "svid-csi-approver");
    assert_eq!(budget["spec"]["selector"], approver["spec"]["selector"]);
    let spread = &approver["spec"]["template"]["spec"]["topologySpreadConstraints"];
    assert_eq!(spread[0]["labelSelector"], approver["spec"]["selector"]);
    assert!(Objects::rendered("").get("PodDisruptionBudget", "cert-manager-csi-driver-spiffe-approver").is_none());
}
