//! A saved identity is served again at once, even while its source is down and whatever the time; an unusable one is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use prost::Message;
use svid_csi_core::x509_context::{concatenate, split};
use svid_csi_proto::workload::{X509svid, X509svidResponse};
use svid_csi_testkit::{Flaw, TestCa};
use tonic::Code;

use super::client::Svids;
use crate::cert_manager::cluster::{BUNDLE, Cluster};
use crate::fixture::{test, until};
use crate::restart::share_root;

fn spiffe_id(pod: &str) -> String {
    format!("spiffe://example.org/ns/shop/sa/{pod}")
}

/// A cluster whose pods may have sockets.
async fn cluster() -> Cluster {
    let more = ["--allow-plan=cert-manager:workload-api", "--request-mode=own"];
    let mut cluster = Cluster::prepared(&[BUNDLE, &more]);
    share_root(&cluster.node);
    cluster.start().await;
    cluster
}

/// The socket of a new pod, and the first message on it.
async fn socket_of(cluster: &Cluster, pod: &str) -> (PathBuf, X509svidResponse) {
    let volume = cluster.volume(pod).attribute("svid-csi/delivery", "workload-api");
    let socket = cluster.node.publish(&volume).await.join("agent.sock");
    let first = Svids::open(&socket).await.unwrap().next().await.unwrap();
    (socket, first)
}

/// A cluster with a pod that has a socket, and the first message on it.
async fn stage() -> (Cluster, PathBuf, X509svidResponse) {
    let cluster = cluster().await;
    let (socket, first) = socket_of(&cluster, "web").await;
    (cluster, socket, first)
}

fn kept(cluster: &Cluster, pod: &str) -> PathBuf {
    cluster.node.path(&format!("root/data/kept/{}", cluster.volume(pod).id()))
}

fn message(ca: &TestCa, pod: &str, flaw: Option<Flaw>) -> Vec<u8> {
    let issued = ca.issue(&spiffe_id(pod), Duration::from_secs(3600), flaw);
    let bundle = concatenate(&split(&ca.bundle_der()).unwrap());
    let svid = X509svid {
        spiffe_id: spiffe_id(pod),
        x509_svid: issued.chain,
        x509_svid_key: issued.key,
        bundle,
        hint: String::new(),
    };
    X509svidResponse { svids: vec![svid], ..Default::default() }.encode_to_vec()
}

async fn is_renewed(socket: &Path) -> X509svidResponse {
    let mut answer = None;
    until("there is an identity", async || {
        answer = match Svids::open(socket).await {
            Ok(mut svids) => svids.next().await.ok(),
            Err(_) => None,
        };
        answer.is_some()
    })
    .await;
    answer.unwrap()
}

#[test]
fn it_is_served_at_once_while_the_source_is_down() {
    test(async || {
        let (mut cluster, socket, first) = stage().await;
        cluster.server.stop();
        for _ in 0..2 {
            cluster.node.kill();
            cluster.node.start().await;
            let again = Svids::open(&socket).await.unwrap().next().await.unwrap();
            assert!(again == first, "the very same, with its key");
        }
        let trouble = cluster.node.kubelet.stats(&cluster.node.plugin().await, &cluster.volume("web")).await.unwrap();
        assert!(!trouble.volume_condition.unwrap().abnormal);
    });
}

#[test]
fn it_is_served_again_after_the_bundle_was_replaced() {
    test(async || {
        let (mut cluster, socket, first) = stage().await;
        cluster.server.stop();
        fs::write(cluster.node.path("ca.crt"), TestCa::new("another").bundle_pem()).unwrap();
        until("the pod receives the other bundle", async || {
            let received = Svids::open(&socket).await.unwrap().next().await.unwrap();
            received.svids[0].bundle != first.svids[0].bundle
        })
        .await;
        cluster.node.kill();
        cluster.node.start().await;
        let again = Svids::open(&socket).await.unwrap().next().await.unwrap();
        assert!(again.svids[0].x509_svid_key == first.svids[0].x509_svid_key);
    });
}

#[test]
fn files_that_a_crash_left_incomplete_are_removed() {
    test(async || {
        let (mut cluster, ..) = stage().await;
        cluster.node.kill();
        let left = [".csi-1.new", "csi-of-nobody"].map(|name| kept(&cluster, "web").with_file_name(name));
        left.iter().for_each(|path| fs::write(path, "a key").unwrap());
        cluster.node.start().await;
        assert!(kept(&cluster, "web").exists() && !left.iter().any(|path| path.exists()));
    });
}

#[test]
fn it_is_served_whatever_the_time_because_the_clock_may_be_wrong() {
    test(async || {
        let (mut cluster, ca) = (cluster().await, TestCa::new("another"));
        let flaws = [("expired", Flaw::Expired), ("early", Flaw::NotYetValid)];
        let (sockets, saved): (Vec<_>, Vec<_>) = (
            join_all(flaws.iter().map(|(pod, _)| socket_of(&cluster, pod))).await,
            flaws.iter().map(|(pod, flaw)| message(&ca, pod, Some(*flaw))).collect(),
        );
        cluster.node.kill();
        cluster.server.stop();
        for ((pod, _), message) in flaws.iter().zip(&saved) {
            fs::write(kept(&cluster, pod), message).unwrap();
        }
        cluster.node.start().await;
        for ((pod, _), ((socket, _), message)) in flaws.iter().zip(sockets.iter().zip(&saved)) {
            let served = Svids::open(socket).await.unwrap().next().await.unwrap();
            let saved = X509svidResponse::decode(&**message).unwrap();
            assert!(served.svids[0].x509_svid == saved.svids[0].x509_svid, "{pod}");
        }
    });
}

#[test]
fn an_unusable_identity_is_not_served_and_replaced_once_the_source_is_back() {
    test(async || {
        let (mut cluster, ca) = (cluster().await, TestCa::new("another"));
        let useless = [
            ("other-key", message(&ca, "other-key", Some(Flaw::OtherKey))),
            ("half", message(&ca, "half", None)[..500].to_vec()),
            ("garbage", b"garbage".to_vec()),
            ("empty", Vec::new()),
        ];
        let before = join_all(useless.iter().map(|(pod, _)| socket_of(&cluster, pod))).await;
        cluster.node.kill();
        cluster.server.stop();
        for (pod, message) in &useless {
            fs::write(kept(&cluster, pod), message).unwrap();
        }
        cluster.node.start().await;
        for ((pod, _), (socket, _)) in useless.iter().zip(&before) {
            let status = Svids::open(socket).await.map(drop).unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{pod}: {status}");
            let (log, volume) = (cluster.node.log(), cluster.volume(pod).id().to_string());
            let mut lines = log.lines().filter(|line| line.contains("can no longer be used"));
            assert!(lines.any(|line| line.contains(&volume)), "{pod}: {log}");
        }
        cluster.server.resume();
        for ((pod, _), (socket, first)) in useless.iter().zip(&before) {
            let renewed = is_renewed(socket).await;
            assert!(renewed.svids[0].spiffe_id == spiffe_id(pod) && renewed != *first, "{pod}");
        }
    });
}
