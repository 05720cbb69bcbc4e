//! The driver's metrics, the alerts and the dashboard by the standards of Prometheus (`just promtool`).

use std::path::{Path, PathBuf};

use serde_json::Value;
use svid_csi_testkit::promtool;

use crate::endpoints::{tcp, until_counted};
use crate::fixture::{Node, test, volume};

fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/monitoring").join(name)
}

#[test]
#[ignore = "needs promtool: `just promtool`"]
fn the_metrics_of_a_driver_are_clean() {
    test(async || {
        let node = Node::files(&["--metrics-address=127.0.0.1:0", "--admin-socket={dir}/admin.sock"]).await;
        node.publish(&volume("web")).await;
        node.refused(&volume("api").attribute("svid-csi/x", "y")).await;
        crate::endpoints::renew_all(&node).await;
        until_counted(&node, "renewals_total").await;
        node.unpublish(&volume("web")).await;
        let page = tcp(&node, "/metrics").await;
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        for metric in
            ["publish_duration_seconds_bucket{", "unpublish_duration_seconds_sum{", "issue_duration_seconds_count{"]
        {
            assert!(body.contains(metric), "{metric} in {body}");
        }
        assert_eq!(promtool(&["check", "metrics"], body), "");
    });
}

#[test]
#[ignore = "needs promtool: `just promtool`"]
fn the_alerts_are_valid_and_pass_their_tests() {
    promtool(&["check", "rules", "--lint-fatal", monitoring("alerts.yaml").to_str().unwrap()], "");
    let said = promtool(&["test", "rules", monitoring("alerts_test.yaml").to_str().unwrap()], "");
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
#[ignore = "needs promtool: `just promtool`"]
fn the_queries_of_the_dashboard_are_valid() {
    let dashboard: Value = serde_json::from_slice(&std::fs::read(monitoring("dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    let rule = |(number, query): (usize, &&str)| {
        // As Grafana does.
        let expr = query.replace("$__rate_interval", "5m").replace("$instance", ".*");
        assert!(!expr.contains('$'), "{expr}");
        serde_json::json!({"record": format!("query{number}"), "expr": expr})
    };
    let rules: Vec<_> = queries.iter().enumerate().map(rule).collect();
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    // JSON is YAML.
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(file.path(), groups.to_string()).unwrap();
    let said = promtool(&["check", "rules", "--lint-fatal", file.path().to_str().unwrap()], "");
    assert!(said.contains(&format!("{} rules found", queries.len())), "{said}");
}
