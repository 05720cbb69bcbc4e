//! What the metrics say about the life of volumes.

use crate::endpoints::{metric, metrics_as, renew_all, sum_of_metric, tcp, until_counted};
use crate::fixture::{Node, test, until, volume};

const METRICS: &str = "--metrics-address=127.0.0.1:0";
const ADMIN: &str = "--admin-socket={dir}/admin.sock";

async fn files() -> Node {
    Node::files(&[METRICS, ADMIN]).await
}

/// The number of publishes with that plan and result.
async fn publishes(node: &Node, plan: &str, result: &str) -> f64 {
    let name = format!("publish_duration_seconds_count{{plan=\"{plan}\",result=\"{result}\"}}");
    metric(node, &name).await.unwrap_or_default()
}

#[test]
fn publishes_are_counted_by_the_party_that_must_act() {
    test(async || {
        let node = files().await;
        node.publish(&volume("web")).await;
        node.publish(&volume("web")).await;
        node.refused(&volume("api").attribute("svid-csi/x", "y")).await;
        assert_eq!(publishes(&node, "local-ca:files", "ok").await, 1.0);
        assert_eq!(publishes(&node, "local-ca:files", "unchanged").await, 1.0, "the kubelet asks again and again");
        assert_eq!(publishes(&node, "unknown", "caller").await, 1.0, "a request that is not understood has no plan");
        node.unpublish(&volume("web")).await;
        node.unpublish(&volume("web")).await;
        for plan in ["local-ca:files", "unknown"] {
            let name = format!("unpublish_duration_seconds_count{{plan=\"{plan}\",result=\"ok\"}}");
            assert_eq!(metric(&node, &name).await, Some(1.0), "{plan}");
        }
        assert_eq!(sum_of_metric(&node, "csi_calls_in_flight").await, 0.0);
        assert_eq!(metric(&node, "issue_duration_seconds_count{source=\"local-ca\"}").await, Some(1.0));
    });
}

#[test]
fn an_agent_that_is_down_is_the_source() {
    test(async || {
        let node = Node::passthrough(&[METRICS]).await;
        let up = "source_up{source=\"socket\"}";
        assert_eq!(metric(&node, up).await, Some(0.0));
        let agent = node.agent();
        let reached = async || metric(&node, up).await == Some(1.0);
        until("the agent is reached", reached).await;
        node.publish(&volume("web")).await;
        assert_eq!(publishes(&node, "socket:socket-dir", "ok").await, 1.0);
        drop(agent);
        let gone = async || metric(&node, up).await == Some(0.0);
        until("the agent is gone", gone).await;
        assert!(
            metric(&node, "outage_horizon_seconds{share=\"first\"}").await.unwrap().is_infinite(),
            "no identity is known"
        );
    });
}

#[test]
fn renewals_and_expiry_are_counted_by_source() {
    test(async || {
        let node = files().await;
        assert_eq!(metric(&node, "source_soonest_expiry_seconds").await, None);
        node.publish(&volume("web")).await;
        renew_all(&node).await;
        until_counted(&node, "renewals_total").await;
        let renewed = "renewals_total{source=\"local-ca\",renewed=\"identity\",outcome=\"renewed\"}";
        assert_eq!(metric(&node, renewed).await, Some(1.0));
        assert_eq!(metric(&node, "renewal_failures_total").await, Some(0.0));
        let hour = 3000.0..3600.1;
        for name in ["source_soonest_expiry_seconds{source=\"local-ca\"}", "outage_horizon_seconds{share=\"half\"}"] {
            assert!(hour.contains(&metric(&node, name).await.unwrap()), "{name}");
        }
        assert_eq!(metric(&node, "source_up{source=\"local-ca\"}").await, Some(1.0));
        let version = format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert_eq!(metric(&node, &version).await, Some(1.0));
    });
}

#[test]
fn recoveries_are_counted_by_their_result() {
    test(async || {
        let mut node = files().await;
        node.publish(&volume("web")).await;
        node.publish(&volume("gone")).await;
        node.kill();
        let gone = node.kubelet.target(&volume("gone"));
        crate::fixture::run("umount", &[gone.to_str().unwrap()]);
        std::fs::remove_dir_all(gone.ancestors().nth(4).unwrap()).unwrap();
        node.start().await;
        for (result, volumes) in [("served", 1.0), ("removed", 1.0), ("awaits_publish", 0.0), ("left_alone", 0.0)] {
            let name = format!("recoveries_total{{result=\"{result}\"}}");
            assert_eq!(metric(&node, &name).await, Some(volumes), "{result}");
        }
        assert_eq!(metric(&node, "volumes_queued{reason=\"retry\"}").await, Some(0.0));
    });
}

#[test]
fn a_scraper_that_accepts_openmetrics_gets_it() {
    test(async || {
        let node = Node::files(&[METRICS]).await;
        let text = tcp(&node, "/metrics").await;
        assert!(
            text.contains("text/plain; version=0.0.4")
                && text.contains("# TYPE svid_csi_renewal_failures_total counter")
        );
        let page = metrics_as(&node, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await;
        assert!(page.contains("application/openmetrics-text; version=1.0.0"), "{page}");
        assert!(page.contains("# TYPE svid_csi_renewal_failures counter") && page.ends_with("# EOF\n"), "{page}");
    });
}
