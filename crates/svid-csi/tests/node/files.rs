//! local-ca -> files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use svid_csi::demo::kubelet::{InlineVolume, Pod};
use svid_csi::spiffe::svid::Svid;
use tonic::Code;

use crate::endpoints::{metric, renew_all};
use crate::fixture::{Node, is_root_outside, pod, serial, svid, test, until, volume};

#[test]
fn a_pod_gets_only_its_own_identity() {
    test(async || {
        let node = Node::files(&[]).await;
        let target = node.publish(&volume("web")).await;
        let svid = Svid::read(&target).unwrap();
        svid.check_key().unwrap();
        svid.check_chain().unwrap();
        assert_eq!(svid.leaf().unwrap().spiffe_id, "spiffe://example.org/ns/shop/sa/web");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&target), mode(&target.join("tls.key"))), (0o550, 0o440));
        assert_eq!(fs::read_link(target.join("tls.key")).unwrap(), Path::new("..data/tls.key"));
        let error = fs::write(target.join("x"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "read-only on the host too");
        assert_eq!(serial(&node.publish(&volume("web")).await), serial(&target), "a republish changes nothing");
        node.unpublish(&volume("web")).await;
        assert!(!target.exists());
        assert_eq!(fs::read_dir(node.path("root/data/volumes")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(node.path("root/records")).unwrap().count(), 0);
    });
}

#[test]
fn the_pod_chooses_names_and_group() {
    test(async || {
        let node = Node::files(&[]).await;
        let group = fs::metadata("/proc/self/gid_map").map_or(0, |_| if is_root_outside() { 2000 } else { 0 });
        let mut web = pod("web");
        web.fs_group = (group != 0).then_some(group);
        let mut named = InlineVolume::new(&web, "spiffe");
        for (name, file) in [("cert", "svid.pem"), ("key", "svid_key.pem"), ("bundle", "bundle.pem")] {
            named = named.attribute(&format!("svid-csi/file-{name}"), file);
        }
        let target = node.publish(&named).await;
        for file in ["svid.pem", "svid_key.pem", "bundle.pem"] {
            assert_eq!(fs::metadata(target.join(file)).unwrap().gid(), group);
        }
        assert_eq!(fs::metadata(&target).unwrap().gid(), group);
        let roots_group = Pod { fs_group: Some(0), ..pod("of-root") };
        let target = node.publish(&InlineVolume::new(&roots_group, "spiffe")).await;
        assert_eq!(fs::metadata(target.join("tls.key")).unwrap().gid(), 0);
    });
}

#[test]
fn an_identity_is_renewed_before_it_expires() {
    test(async || {
        let node = Node::files(&["--certificate-request-duration=12s"]).await;
        let target = node.publish(&volume("web")).await;
        let first = serial(&target);
        until("the identity is renewed", async || {
            svid(&target).check_chain().expect("valid at every moment");
            serial(&target) != first
        })
        .await;
        Svid::read(&target).unwrap().check_key().unwrap();
        assert_eq!(node.trouble(&volume("web")).await, None);
    });
}

#[test]
fn readers_never_see_a_mixed_pair() {
    test(async || {
        let node = Node::files(&["--admin-socket={dir}/admin.sock"]).await;
        let target = node.publish(&volume("web")).await;
        let mut serials = std::collections::HashSet::new();
        while serials.len() < 20 {
            renew_all(&node).await;
            for _ in 0..50 {
                // Like a careful reader: everything through one resolution of `..data`.
                let Ok(now) = fs::canonicalize(target.join("..data")) else { continue };
                let Ok(svid) = Svid::read(&now) else { continue };
                svid.check_key().unwrap();
                serials.insert(svid.leaf().unwrap().serial);
            }
        }
    });
}

#[test]
fn a_full_tmpfs_keeps_the_old_pair() {
    test(async || {
        let node =
            Node::files(&["--data-size-limit=1Mi", "--admin-socket={dir}/admin.sock", "--metrics-address=127.0.0.1:0"])
                .await;
        let target = node.publish(&volume("web")).await;
        let first = serial(&target);
        let filler = node.path("root/data/filler");
        let _ = fs::write(&filler, vec![0; 2 << 20]);
        renew_all(&node).await;
        until("the failure is counted", async || metric(&node, "renewal_failures_total").await == Some(1.0)).await;
        let svid = Svid::read(&target).unwrap();
        svid.check_key().unwrap();
        assert_eq!(svid.leaf().unwrap().serial, first);
        let (code, message) = node.refused(&volume("api")).await;
        assert_eq!(code, Code::ResourceExhausted, "{message}");
        fs::remove_file(filler).unwrap();
        node.publish(&volume("api")).await;
    });
}

#[test]
fn an_id_belongs_to_one_pod() {
    test(async || {
        let node = Node::files(&[]).await;
        let web = volume("web");
        let target = node.publish(&web).await;
        let mut request = volume("api").publish_request(node.kubelet.target(&volume("api")).to_str().unwrap(), false);
        fs::create_dir_all(node.kubelet.target(&volume("api")).parent().unwrap()).unwrap();
        request.volume_id = web.id().to_string();
        let status = node.plugin().await.node().await.unwrap().node_publish_volume(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "the id is the kubelet's for another pod: {status}");
        request.volume_id = "custom".to_owned();
        node.plugin().await.node().await.unwrap().node_publish_volume(request.clone()).await.unwrap();
        let mut second = web.publish_request(target.to_str().unwrap(), false);
        second.volume_id = "custom".to_owned();
        let status = node.plugin().await.node().await.unwrap().node_publish_volume(second).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{status}");
        Svid::read(&target).unwrap().check_key().unwrap();
    });
}

#[test]
fn no_key_in_records_status_or_logs() {
    test(async || {
        let node = Node::files(&["--admin-socket={dir}/admin.sock", "--log-level=5"]).await;
        let mut web = volume("web");
        web.tokens = Some(r#"{"":{"token":"s3cr3t","expirationTimestamp":"2030-01-01T00:00:00Z"}}"#.to_owned());
        let (code, message) = node.refused(&web).await;
        assert_eq!(code, Code::InvalidArgument);
        let target = node.publish(&volume("web")).await;
        let key = fs::read_to_string(target.join("tls.key")).unwrap();
        let secret = key.lines().nth(1).unwrap();
        let status = crate::endpoints::get(&node, "/status").await;
        for shown in [node.record(&volume("web")), status, node.log(), message] {
            assert!(!shown.contains(secret) && !shown.contains("s3cr3t") && !shown.contains("PRIVATE KEY"), "{shown}");
        }
        assert!(node.log().contains("serial"), "the audit line exists: {}", node.log());
    });
}
