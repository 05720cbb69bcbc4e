//! Every pair of source and delivery: it works from the flag to the pod, or the driver does not start and reports the
//! reason.

use std::path::Path;
use std::process::{Command, Output};

use svid_csi::demo::agent::{Agent as SmallAgent, AgentSettings};
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_testkit::agent::{Agent, Entry};

use crate::cert_manager::cluster::{BUNDLE, Cluster};
use crate::fixture::{Node, pod, svid, test, volume};
use crate::workload_api::client::Svids;

const SOURCES: [&str; 4] = ["socket", "broker", "cert-manager", "local-ca"];
const DELIVERIES: [&str; 3] = ["socket-dir", "files", "workload-api"];
const ID: &str = "spiffe://example.org/ns/shop/sa/web";

#[test]
fn every_valid_pair_gives_a_pod_its_identity() {
    test(async || {
        for (source, delivery) in pairs(is_valid) {
            let seen = match source {
                "socket" => through_socket(delivery).await,
                "broker" => through_broker(delivery).await,
                "cert-manager" => through_cert_manager(delivery).await,
                _ => through_local_ca(delivery).await,
            };
            assert_eq!(seen, ID, "{source}:{delivery}");
        }
    });
}

#[test]
fn every_other_pair_is_refused_at_startup_with_the_reason() {
    for (source, delivery) in pairs(|source, delivery| !is_valid(source, delivery)) {
        let usual = if source == "socket" { "socket-dir" } else { "files" };
        let reason = format!("source `{source}` cannot be delivered as `{delivery}`; use `{source}:{usual}`");
        let common = ["--driver-name=a.b", "--node-id=n", "--endpoint=/tmp/s", "--data-root=/tmp/r"];
        let as_default = started(&common, &[&format!("--source={source}"), &format!("--delivery={delivery}")]);
        let as_allowed = started(&common, &["--source=local-ca", &format!("--allow-plan={source}:{delivery}")]);
        for Output { status, stderr, .. } in [as_default, as_allowed] {
            let said = String::from_utf8(stderr).unwrap();
            assert!(status.code() == Some(2) && said.contains(&reason), "{source}:{delivery}: {status}: {said}");
        }
    }
}

fn is_valid(source: &str, delivery: &str) -> bool {
    (source == "socket") == (delivery == "socket-dir")
}

fn pairs(wanted: impl Fn(&str, &str) -> bool) -> Vec<(&'static str, &'static str)> {
    let all = SOURCES.into_iter().flat_map(|source| DELIVERIES.map(|delivery| (source, delivery)));
    all.filter(|(source, delivery)| wanted(source, delivery)).collect()
}

fn started(common: &[&str], more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_svid-csi")).arg("driver").args(common).args(more).output().unwrap()
}

async fn through_socket(delivery: &str) -> String {
    let mut node = node("socket", delivery, &["--workload-api-socket-dir={dir}/run/agent"]);
    let agent = SmallAgent::bind(AgentSettings {
        socket: node.path("run/agent/agent.sock"),
        spiffe_id: SpiffeId::parse(ID).unwrap(),
        lifetime: std::time::Duration::from_secs(3600),
        ca_dir: node.path("ca"),
        on_fetch: Box::new(|_| {}),
    });
    let serving = tokio::spawn(agent.unwrap().serve());
    node.start().await;
    let seen = seen(&node.publish(&volume("web")).await).await;
    serving.abort();
    seen
}

async fn through_broker(delivery: &str) -> String {
    let sockets = ["--workload-api-socket-dir={dir}/run/agent", "--broker-socket={dir}/run/broker/api.sock"];
    let mut node = node("broker", delivery, &sockets);
    let agent = Agent::start(&node.path("run"));
    agent.register(&pod("web"), &[Entry::new(ID)]);
    node.start().await;
    seen(&node.publish(&volume("web")).await).await
}

async fn through_cert_manager(delivery: &str) -> String {
    let cluster = Cluster::started(&[BUNDLE, &[&format!("--delivery={delivery}")]]).await;
    seen(&cluster.node.publish(&cluster.volume("web")).await).await
}

async fn through_local_ca(delivery: &str) -> String {
    let mut node = node("local-ca", delivery, &["--trust-domain=example.org"]);
    node.start().await;
    seen(&node.publish(&volume("web")).await).await
}

fn node(source: &str, delivery: &str, more: &[&str]) -> Node {
    let (source, delivery) = (format!("--source={source}"), format!("--delivery={delivery}"));
    Node::new(&[&[&source, &delivery, "--driver-name=demo.svid-csi", "--data-root={dir}/root"], more])
}

/// The SPIFFE ID that a pod finds in its volume, whatever the delivery.
async fn seen(target: &Path) -> String {
    if target.join("tls.crt").exists() {
        let svid = svid(target);
        svid.check_chain().unwrap();
        return svid.leaf().unwrap().spiffe_id;
    }
    let message = Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
    message.svids[0].spiffe_id.clone()
}
