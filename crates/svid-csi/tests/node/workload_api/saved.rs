//! A saved identity is served again at once, even while its source is down; an unusable one is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use svid_csi_core::x509_context::{concatenate, split};
use svid_csi_proto::workload::{X509svid, X509svidResponse};
use svid_csi_testkit::{Flaw, TestCa};
use tonic::Code;

use super::client::Svids;
use crate::cert_manager::cluster::{BUNDLE, Cluster};
use crate::fixture::{test, until};
use crate::restart::share_root;

const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

/// A cluster with a pod that has a socket, and the first message on it.
async fn stage() -> (Cluster, PathBuf, X509svidResponse) {
    let more = ["--allow-plan=cert-manager:workload-api", "--request-mode=own"];
    let mut cluster = Cluster::prepared(&[BUNDLE, &more]);
    share_root(&cluster.node);
    cluster.start().await;
    let volume = cluster.volume("web").attribute("svid-csi/delivery", "workload-api");
    let socket = cluster.node.publish(&volume).await.join("agent.sock");
    let first = Svids::open(&socket).await.unwrap().next().await.unwrap();
    (cluster, socket, first)
}

fn kept(cluster: &Cluster) -> PathBuf {
    cluster.node.path(&format!("root/data/kept/{}", cluster.volume("web").id()))
}

fn message(ca: &TestCa, flaw: Option<Flaw>) -> Vec<u8> {
    let issued = ca.issue(WEB, Duration::from_secs(3600), flaw);
    let bundle = concatenate(&split(&ca.bundle_der()).unwrap());
    let svid = X509svid {
        spiffe_id: WEB.to_owned(),
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
            let told = Svids::open(&socket).await.unwrap().next().await.unwrap();
            told.svids[0].bundle != first.svids[0].bundle
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
        let left = [".csi-1.new", "csi-of-nobody"].map(|name| kept(&cluster).with_file_name(name));
        left.iter().for_each(|path| fs::write(path, "a key").unwrap());
        cluster.node.start().await;
        assert!(kept(&cluster).exists() && !left.iter().any(|path| path.exists()));
    });
}

#[test]
fn an_unusable_identity_is_not_served_and_replaced_once_the_source_is_back() {
    test(async || {
        let (mut cluster, socket, first) = stage().await;
        let ca = TestCa::new("another");
        let half = message(&ca, None)[..500].to_vec();
        for useless in [
            message(&ca, Some(Flaw::Expired)),
            message(&ca, Some(Flaw::OtherKey)),
            half,
            b"garbage".to_vec(),
            Vec::new(),
        ] {
            cluster.node.kill();
            cluster.server.stop();
            fs::write(kept(&cluster), useless).unwrap();
            cluster.node.start().await;
            let status = Svids::open(&socket).await.map(drop).unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            assert!(cluster.node.log().contains("can no longer be used"), "{}", cluster.node.log());
            cluster.server.resume();
            let renewed = is_renewed(&socket).await;
            assert!(renewed.svids[0].spiffe_id == WEB && renewed != first);
        }
    });
}
