//! /status, /renew, /metrics, /livez and /readyz.

use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::fixture::{Node, test, volume};

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, method: &str, path: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
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

/// Asks the address the driver has logged: tests listen on port 0.
pub(crate) async fn tcp(node: &Node, path: &str) -> String {
    let log = node.log();
    let line = log.lines().rev().find(|line| line.contains("serving /metrics")).expect("the address is logged");
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    ask(TcpStream::connect(address).await.unwrap(), "GET", path).await
}

pub(crate) async fn metric(node: &Node, name: &str) -> Option<f64> {
    let page = tcp(node, "/metrics").await;
    let line = page.lines().find(|line| line.starts_with(&format!("svid_csi_{name}")))?.to_owned();
    line.split_whitespace().last()?.parse().ok()
}

#[test]
fn status_is_for_root_and_shows_the_volumes() {
    test("endpoints::status_is_for_root_and_shows_the_volumes", async || {
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
    test("endpoints::metrics_and_health_are_served_over_tcp", async || {
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
    test("endpoints::a_taken_metrics_address_does_not_stop_the_driver", async || {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("--metrics-address={}", taken.local_addr().unwrap());
        let node = Node::files(&[&address]).await;
        node.publish(&volume("web")).await;
        assert!(node.log().contains("there will be no metrics"), "{}", node.log());
    });
}
