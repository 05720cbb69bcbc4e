//! /status, /renew, /metrics, /livez and /readyz.

use std::os::unix::fs::PermissionsExt;

use svid_csi_testkit::measure::peak_memory;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::fixture::{Node, test, volume};

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin, method: &str, path: &str) -> String {
    ask_accepting(stream, method, path, "*/*").await
}

async fn ask_accepting(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    accept: &str,
) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

pub(crate) async fn get(node: &Node, path: &str) -> String {
    ask(UnixStream::connect(node.path("admin.sock")).await.unwrap(), "GET", path).await
}

pub(crate) async fn renew_all(node: &Node) -> String {
    ask(UnixStream::connect(node.path("admin.sock")).await.unwrap(), "POST", "/renew").await
}

pub(crate) async fn renew_pod(node: &Node, pod: &str) -> String {
    let path = format!("/renew?pod={pod}");
    ask(UnixStream::connect(node.path("admin.sock")).await.unwrap(), "POST", &path).await
}

/// The same, of a driver that may end before it answers.
pub(crate) async fn renew_pod_if_it_runs(node: &Node, pod: &str) {
    let Ok(mut stream) = UnixStream::connect(node.path("admin.sock")).await else { return };
    let request = format!("POST /renew?pod={pod} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// The address in the driver's log, because tests listen on port 0.
pub(crate) fn address(node: &Node) -> String {
    let log = node.log();
    let line = log.lines().rev().find(|line| line.contains("serving /metrics")).expect("the address is logged");
    line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

pub(crate) async fn tcp(node: &Node, path: &str) -> String {
    ask(TcpStream::connect(address(node)).await.unwrap(), "GET", path).await
}

/// The metrics, for a scraper that accepts these formats.
pub(crate) async fn metrics_as(node: &Node, accept: &str) -> String {
    ask_accepting(TcpStream::connect(address(node)).await.unwrap(), "GET", "/metrics", accept).await
}

pub(crate) async fn metric(node: &Node, name: &str) -> Option<f64> {
    let page = tcp(node, "/metrics").await;
    let line = page.lines().find(|line| line.starts_with(&format!("svid_csi_{name}")))?.to_owned();
    line.split_whitespace().last()?.parse().ok()
}

pub(crate) async fn status(node: &Node) -> serde_json::Value {
    let page = get(node, "/status").await;
    serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// The sum of a metric over all its labels.
pub(crate) async fn sum_of_metric(node: &Node, name: &str) -> f64 {
    let page = tcp(node, "/metrics").await;
    let lines = page.lines().filter(|line| line.starts_with(&format!("svid_csi_{name}")));
    lines.filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok()).sum()
}

/// Waits until a metric is there and above zero, summed over all its labels.
pub(crate) async fn until_counted(node: &Node, name: &str) {
    let what = format!("{name} is counted");
    crate::fixture::until(&what, async || sum_of_metric(node, name).await > 0.0).await;
}

#[test]
fn status_is_for_root_and_shows_the_volumes() {
    test(async || {
        let node = Node::files(&["--admin-socket={dir}/admin.sock"]).await;
        node.publish(&volume("web")).await;
        let mode = std::fs::metadata(node.path("admin.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let status = get(&node, "/status").await;
        for expected in ["spiffe://example.org/ns/shop/sa/web", "\"shop/web\"", "\"ready\"", "local-ca:files"] {
            assert!(status.contains(expected), "{expected} in {status}");
        }
        assert!(renew_all(&node).await.contains("{\"renewing\":1}"));
    });
}

#[test]
fn metrics_and_health_are_served_over_tcp() {
    test(async || {
        let node = Node::files(&["--metrics-address=127.0.0.1:0"]).await;
        node.publish(&volume("web")).await;
        node.refused(&volume("api").attribute("svid-csi/x", "y")).await;
        assert!(tcp(&node, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(tcp(&node, "/readyz").await.starts_with("HTTP/1.1 200"));
        let page = tcp(&node, "/metrics").await;
        for expected in [
            "svid_csi_csi_calls_total{call=\"NodePublishVolume\",code=\"Ok\"} 1",
            "svid_csi_csi_calls_total{call=\"NodePublishVolume\",code=\"InvalidArgument\"} 1",
            "svid_csi_volumes{plan=\"local-ca:files\",phase=\"ready\"} 1",
            "svid_csi_identities_issued_total 1",
        ] {
            assert!(page.contains(expected), "{expected} in {page}");
        }
        assert!(metric(&node, "soonest_expiry_seconds").await.unwrap() > 3000.0);
        assert!(!page.contains("shop"), "no label carries a pod");
    });
}

#[test]
fn a_taken_metrics_address_does_not_stop_the_driver() {
    test(async || {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("--metrics-address={}", taken.local_addr().unwrap());
        let node = Node::files(&[&address]).await;
        node.publish(&volume("web")).await;
        assert!(node.log().contains("there will be no metrics"), "{}", node.log());
    });
}

#[test]
fn one_process_serves_and_registers_both_driver_names() {
    test(async || {
        let mut node = Node::new(&[
            crate::fixture::FILES,
            &["--data-root={dir}/root", "--trust-domain=example.org", "-workload-api-socket-dir={dir}/run/agent"],
            &["--kubelet-registration-dir={dir}/kubelet/plugins_registry", "--log-format=json"],
            &["--kubelet-registration-path={dir}/csi.sock"],
            &["--also-profile=csi.spiffe.io:csi-socket={dir}/spiffe.sock,registration-path={dir}/spiffe.sock"],
        ]);
        node.start().await;
        let within = std::time::Duration::from_secs(120);
        let files = node.kubelet.register("demo.svid-csi", within).await.unwrap();
        let sockets = node.kubelet.register("csi.spiffe.io", within).await.unwrap();
        let _agent = node.agent();
        let with_files = node.kubelet.publish(&files, &volume("web")).await.unwrap();
        assert!(with_files.join("tls.crt").exists());
        let with_socket = node.kubelet.publish(&sockets, &volume("api")).await.unwrap();
        crate::fixture::until("the socket exists", async || with_socket.join("agent.sock").exists()).await;
        let log = node.log();
        assert!(log.contains("registered with the kubelet"), "{log}");
        assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
        node.terminate().await;
        assert!(!node.log().contains("still in progress"), "idle connections are not calls: {}", node.log());
        assert_eq!(std::fs::read_dir(node.kubelet.registration_dir()).unwrap().count(), 0);
    });
}

#[test]
fn capabilities_follow_the_plans() {
    use svid_csi::demo::kubelet::Capability;
    test(async || {
        let passthrough = Node::passthrough(&[]).await.plugin().await;
        assert_eq!(
            passthrough.capabilities,
            [Capability::GetVolumeStats, Capability::VolumeCondition, Capability::GetStorageHealth]
        );
        let files = Node::files(&[]).await.plugin().await;
        assert_eq!(files.capabilities, [Capability::VolumeMountGroup, Capability::GetStorageHealth]);
        assert_eq!((files.name.as_str(), files.node_id.as_str()), ("demo.svid-csi", "n1"));
    });
}

#[test]
fn a_volume_may_ask_for_an_allowed_plan() {
    test(async || {
        let more = ["--allow-plan=local-ca:files", "--trust-domain=example.org"];
        let node = Node::passthrough(&more).await;
        let target = node.publish(&volume("web").attribute("svid-csi/source", "local-ca")).await;
        assert!(target.join("tls.key").exists());
    });
}

/// The beginning of a request that never ends.
async fn half_a_request(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may be dropped before all of it is sent.
    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half: ").await;
    stream
}

#[test]
fn incomplete_requests_cost_little_and_are_dropped() {
    test(async || {
        let node = Node::files(&["--metrics-address=127.0.0.1:0"]).await;
        tcp(&node, "/metrics").await;
        let before = peak_memory(node.pid()).unwrap();
        let mut halves = Vec::new();
        for _ in 0..3_000 {
            halves.push(half_a_request(&address(&node)).await);
        }
        assert!(tcp(&node, "/livez").await.starts_with("HTTP/1.1 200"), "they do not block others");
        let begun = std::time::Instant::now();
        for mut half in halves {
            let mut said = Vec::new();
            let ended = tokio::time::timeout(std::time::Duration::from_secs(60), half.read_to_end(&mut said)).await;
            let _ = ended.expect("it is let go");
        }
        let (grown, took) = (peak_memory(node.pid()).unwrap() - before, begun.elapsed());
        println!("{grown:.1} MB more, all gone after {:.1} s", took.as_secs_f64());
        assert!(took < std::time::Duration::from_secs(15), "{took:?}");
        // 4 in a release build; a debug build takes up to a quarter more.
        assert!(grown < 5.0, "{grown} MB more");
    });
}

#[test]
fn pods_and_incomplete_requests_leave_descriptors_for_the_kubelet() {
    test(async || {
        let data = ["--data-root={dir}/root", "--trust-domain=example.org", "--allow-plan=local-ca:workload-api"];
        let mut node = Node::new(&[crate::fixture::FILES, &data, &["--metrics-address=127.0.0.1:0"]]);
        node.limit_descriptors(256);
        node.start().await;
        let mut held = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            let volume = volume(name).attribute("svid-csi/delivery", "workload-api");
            let socket = node.publish(&volume).await.join("agent.sock");
            for _ in 0..64 {
                held.extend(UnixStream::connect(&socket).await);
            }
        }
        let mut halves = Vec::new();
        for _ in 0..100 {
            halves.push(half_a_request(&address(&node)).await);
        }
        node.publish(&volume("web")).await;
        node.unpublish(&volume("web")).await;
        assert!(tcp(&node, "/livez").await.starts_with("HTTP/1.1 200"));
    });
}
