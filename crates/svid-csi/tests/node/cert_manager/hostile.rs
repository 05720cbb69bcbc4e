//! Pods that redirect the driver to the files of others.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use svid_csi_testkit::TestCa;

use super::cluster::cluster_test;
use crate::fixture::{serial, until};
use crate::hostile::{unseal, writable_in_pod};

#[test]
fn a_new_bundle_does_not_bring_files_of_another_volume() {
    cluster_test(&[], async |cluster| {
        let (web, api) = (cluster.volume("web"), cluster.volume("api"));
        let (target, other) = (cluster.node.publish(&web).await, cluster.node.publish(&api).await);
        let in_pod = writable_in_pod(&cluster.node, &target);
        let first = serial(&target);
        unseal(&in_pod);
        fs::remove_file(in_pod.join("..data")).unwrap();
        symlink(format!("../{}/..data", api.id()), in_pod.join("..data")).unwrap();
        let next = Arc::new(TestCa::new("next"));
        fs::write(cluster.node.path("new"), cluster.ca.bundle_pem() + &next.bundle_pem()).unwrap();
        fs::rename(cluster.node.path("new"), cluster.node.path("ca.crt")).unwrap();
        let is_new = |target: &std::path::Path| {
            fs::read_to_string(target.join("ca.crt")).is_ok_and(|text| text.matches("BEGIN").count() == 2)
        };
        until("the new bundle is in both", async || {
            is_new(&target) && is_new(&other) && target.join("..data/tls.key").exists()
        })
        .await;
        assert_ne!(fs::read(target.join("tls.key")).unwrap(), fs::read(other.join("tls.key")).unwrap());
        assert_ne!(serial(&target), first, "what was changed is not delivered again");
        assert!(cluster.metric("changed_volumes_seen_total").await > 0.0);
    });
}
