//! Sockets: their location, who can reach them, and their renewals.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use tonic::Code;

use super::client::Svids;
use super::node;
use crate::endpoints::renew_all;
use crate::fixture::{test, until, volume};

#[test]
fn each_pod_has_its_own_socket_and_its_own_identity() {
    test(async || {
        let node = node().await;
        for name in ["web", "db"] {
            let target = node.publish(&volume(name)).await;
            let message = Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
            assert_eq!(message.svids.len(), 1);
            assert_eq!(message.svids[0].spiffe_id, format!("spiffe://example.org/ns/shop/sa/{name}"));
            let names = ["agent.sock", "spire-agent.sock", "socket", "api.sock"];
            let [socket, others @ ..] = names.map(|name| fs::metadata(target.join(name)).unwrap());
            assert!(socket.file_type().is_socket());
            assert!(others.iter().all(|other| other.ino() == socket.ino()), "one socket by four names");
            let mode = |metadata: &fs::Metadata| metadata.permissions().mode() & 0o7777;
            assert_eq!((mode(&socket), mode(&fs::metadata(&target).unwrap())), (0o777, 0o755));
            assert_eq!(fs::read_dir(&target).unwrap().count(), 4);
        }
        let above = fs::metadata(node.path("root/data")).unwrap().permissions().mode() & 0o777;
        assert_eq!(above, 0o700, "other users of the host cannot come near");
    });
}

#[test]
fn every_renewal_reaches_open_streams() {
    test(async || {
        let node = node().await;
        let target = node.publish(&volume("web")).await;
        let mut svids = Svids::open(&target.join("spire-agent.sock")).await.unwrap();
        let first = svids.next().await.unwrap();
        renew_all(&node).await;
        let second = svids.next().await.unwrap();
        assert_ne!(first.svids[0].x509_svid, second.svids[0].x509_svid);
        assert_eq!(first.svids[0].bundle, second.svids[0].bundle);
        node.unpublish(&volume("web")).await;
        svids.next().await.unwrap_err();
        assert!(!target.exists());
        assert_eq!(fs::read_dir(node.path("root/data/kept")).unwrap().count(), 0);
    });
}

#[test]
fn a_killed_driver_serves_the_same_again_in_place() {
    test(async || {
        let mut node = node().await;
        let target = node.publish(&volume("web")).await;
        let socket = target.join("agent.sock");
        let first = Svids::open(&socket).await.unwrap().next().await.unwrap();
        node.kill();
        node.start().await;
        until("the socket is served again", async || Svids::open(&socket).await.is_ok()).await;
        let again = Svids::open(&socket).await.unwrap().next().await.unwrap();
        assert_eq!(again.svids[0].x509_svid, first.svids[0].x509_svid, "nothing is issued again");
        assert_eq!(node.mounts(&target), 1);
    });
}

#[test]
fn without_the_header_nothing_is_served() {
    test(async || {
        let node = node().await;
        let target = node.publish(&volume("web")).await;
        let mut api = super::client::api(&target.join("agent.sock")).await;
        let refused = api.fetch_x509svid(svid_csi_proto::workload::X509svidRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    });
}
