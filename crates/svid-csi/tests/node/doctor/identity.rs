//! The identities of pods.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use svid_csi_testkit::TestCa;
use svid_csi_testkit::api_server::{Issuing, Mode};

use super::{delivered, finds, found, healthy, ids_with};
use crate::broker::scene::{Scene, files_test};
use crate::cert_manager::cluster::cluster_test;
use crate::fixture::{pod, test, unseal_below, until, volume};

/// The API server has no such objects.
const OF_CLUSTER: &[&str] = &["issuer-missing"];

#[test]
fn files_that_others_have_changed() {
    test(async || {
        let node = healthy(&[]).await;
        let (web, api) = (delivered(&node, "web"), delivered(&node, "api"));
        let own = fs::read(web.join("tls.key")).unwrap();
        fs::set_permissions(web.join("tls.key"), fs::Permissions::from_mode(0o444)).unwrap();
        finds(&node, &["key-readable-by-all"]).await;
        fs::set_permissions(web.join("tls.key"), fs::Permissions::from_mode(0o440)).unwrap();
        fs::write(web.join("tls.key"), fs::read(api.join("tls.key")).unwrap()).unwrap();
        finds(&node, &["key-does-not-match"]).await;
        let certificate = fs::read(web.join("tls.crt")).unwrap();
        fs::write(web.join("tls.crt"), fs::read(api.join("tls.crt")).unwrap()).unwrap();
        finds(&node, &["identity-differs"]).await;
        fs::write(web.join("tls.key"), own).unwrap();
        fs::write(web.join("tls.crt"), certificate).unwrap();
        finds(&node, &[]).await;
        fs::remove_file(web.join("tls.crt")).unwrap();
        finds(&node, &["identity-not-delivered"]).await;
    });
}

#[test]
fn a_socket_that_is_gone() {
    test(async || {
        let node = healthy(&[]).await;
        let id = volume("socket").id();
        unseal_below(&node.path("root/data/volumes"));
        fs::remove_file(node.path(&format!("root/data/volumes/{id}/agent.sock"))).unwrap();
        finds(&node, &["identity-not-delivered"]).await;
    });
}

#[test]
fn times_that_pass() {
    test(async || {
        let node = healthy(&[]).await;
        let at = |offset: &str| ids_with(&node, &[&format!("--at={offset}")]).into_iter().collect::<Vec<_>>();
        assert!(at("+30m").is_empty());
        assert_eq!(at("+55m"), ["identity-overdue"]);
        assert_eq!(at("+2h"), ["identity-expired"]);
        assert_eq!(at("-2h"), ["clock-behind"]);
        assert_eq!(at("+3640d"), ["bundle-ca-expires-soon", "identity-expired"]);
        assert_eq!(at("+3651d"), ["bundle-ca-expired", "identity-expired"]);
    });
}

#[test]
fn an_issuer_outside_the_bundle() {
    cluster_test(&["--kubelet-dir={dir}/kubelet"], async |cluster| {
        cluster.server.permissions.everything();
        super::cluster::put(&cluster, super::cluster::object(true));
        finds(&cluster.node, OF_CLUSTER).await;
        let next = Arc::new(TestCa::new("next"));
        cluster.server.cert_manager.mode(Mode::Issue(Issuing::by(&next)));
        cluster.node.publish(&cluster.volume("web")).await;
        finds(&cluster.node, &[OF_CLUSTER, &["identity-untrusted"]].concat()).await;
    });
}

#[test]
fn an_identity_that_was_withdrawn() {
    files_test(async |scene: Scene| {
        let node = &scene.node;
        scene.registered("web").await;
        scene.agent.withdraw(&pod("web"));
        let gone = async || {
            let (_, answer) = super::doctor(node, &[]);
            found(&answer).any(|finding| finding["id"] == "identity-missing" && finding["about"] == "shop/web")
        };
        until("it is missing", gone).await;
    });
}
