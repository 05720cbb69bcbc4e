//! Proxies between this process and the API server, found as kubectl finds them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::Cluster;
use crate::process::Approver;

/// Nothing listens there.
const DEAD: &str = "http://127.0.0.1:9";

/// A proxy that knows one server, by whatever name; and the heads of the requests it was sent.
async fn proxy(server: SocketAddr) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                seen.lock().unwrap().push(String::from_utf8(head).unwrap());
                let mut server = TcpStream::connect(server).await?;
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    (address.to_string(), heads)
}

/// The kubeconfig with another address of the API server, or with a proxy.
fn change(cluster: &Cluster, field: &str, value: &str) {
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let mut kubeconfig: serde_json::Value = serde_json::from_str(&text).unwrap();
    kubeconfig["clusters"][0]["cluster"][field] = value.into();
    std::fs::write(cluster.kubeconfig(), kubeconfig.to_string()).unwrap();
}

async fn approves(cluster: &Cluster, environment: &[(&str, &str)]) {
    let approver = Approver::start_in(&cluster.kubeconfig(), &[], environment);
    approver.ready().await;
    cluster.good("shop", "one");
    cluster.approved("shop", "one").await;
}

#[tokio::test]
async fn this_machine_is_never_asked_through_the_proxy_of_the_environment() {
    approves(&Cluster::start(), &[("HTTPS_PROXY", DEAD), ("HTTP_PROXY", DEAD)]).await;
}

#[tokio::test]
async fn another_machine_is_asked_through_the_proxy_of_the_environment() {
    let cluster = Cluster::start();
    let (address, heads) = proxy(cluster.server.address()).await;
    change(&cluster, "server", "http://api.test:6443");
    approves(&cluster, &[("HTTPS_PROXY", DEAD), ("HTTP_PROXY", &format!("us%40er:pass@{address}"))]).await;
    let head = heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("connect api.test:6443 "), "{head}");
    assert!(head.contains("proxy-authorization: basic "), "{head}");
}

#[tokio::test]
async fn the_proxy_of_the_kubeconfig_wins() {
    let cluster = Cluster::start();
    let (address, heads) = proxy(cluster.server.address()).await;
    change(&cluster, "proxy-url", &format!("http://{address}"));
    approves(&cluster, &[("HTTP_PROXY", DEAD), ("NO_PROXY", "*")]).await;
    assert!(!heads.lock().unwrap().is_empty());
}
