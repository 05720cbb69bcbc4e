//! Paths and requests that must be refused.

use std::fs;
use std::os::unix::fs::symlink;

use tonic::Code;

use crate::fixture::{FILES, Node, PASSTHROUGH, run, test, volume};

async fn publish_at(node: &Node, target: &str) -> Result<(), tonic::Status> {
    let request = volume("web").publish_request(target, false);
    node.plugin().await.node().await.unwrap().node_publish_volume(request).await.map(drop)
}

#[test]
fn a_planted_link_is_never_followed() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let outside = node.path("outside");
        let target = node.kubelet.target(&volume("web"));
        let (csi, name) = (target.ancestors().nth(2).unwrap(), target.parent().unwrap());
        for planted in [csi, name, target.as_path()] {
            let _ = fs::remove_dir_all(node.kubelet.pods_dir().join("uid-of-web"));
            let _ = fs::remove_dir_all(&outside);
            fs::create_dir_all(outside.join("spiffe/mount")).unwrap();
            fs::create_dir_all(planted.parent().unwrap()).unwrap();
            symlink(&outside, planted).unwrap();
            let status = publish_at(&node, target.to_str().unwrap()).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{}: {status}", planted.display());
            assert_eq!(node.mounts(&outside), 0);
            let left = fs::read_dir(outside.join("spiffe/mount")).unwrap().count();
            assert_eq!(left, 0, "nothing is created behind the link");
        }
    });
}

#[test]
fn a_link_planted_later_is_also_not_followed() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let target = node.publish(&volume("web")).await;
        let (name, moved, outside) = (target.parent().unwrap(), node.path("moved"), node.path("outside"));
        fs::rename(name, &moved).unwrap();
        fs::create_dir_all(outside.join("mount")).unwrap();
        symlink(&outside, name).unwrap();
        let error = node.kubelet.unpublish(&node.plugin().await, &volume("web")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
        assert!(outside.join("mount").is_dir());
        assert!(
            node.kubelet.stats(&node.plugin().await, &volume("web")).await.unwrap().volume_condition.unwrap().abnormal
        );
        fs::remove_file(name).unwrap();
        fs::rename(&moved, name).unwrap();
        node.unpublish(&volume("web")).await;
    });
}

#[test]
fn wrong_requests_for_an_identity_are_refused_over_the_wire() {
    test(async || {
        use svid_csi_proto::csi_v1::volume_capability::{AccessType, BlockVolume};
        let node = Node::files(&[]).await;
        let web = volume("web");
        let target = node.kubelet.target(&web);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let right = || web.publish_request(target.to_str().unwrap(), true);
        let mut block = right();
        block.volume_capability.as_mut().unwrap().access_type = Some(AccessType::Block(BlockVolume {}));
        let mut group = right();
        group.volume_context.insert("spiffe.csi.cert-manager.io/fs-group".to_owned(), "-1".to_owned());
        let mut anonymous = right();
        anonymous.volume_context.retain(|key, _| !key.contains("pod.uid"));
        let mut impostor = right();
        impostor.volume_context.insert("csi.storage.k8s.io/pod.uid".to_owned(), "another".to_owned());
        let wrong = [
            (block, "block access is not supported"),
            (group, "must be a group id"),
            (anonymous, "pod.uid is missing"),
            (impostor, "disagrees with the pod UID"),
        ];
        for (request, says) in wrong {
            let status = node.plugin().await.node().await.unwrap().node_publish_volume(request).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            assert!(status.message().contains(says), "{status}");
        }
        assert!(!target.exists());
        assert_eq!(fs::read_dir(node.path("root/data/volumes")).unwrap().count(), 0);
    });
}

#[test]
fn bad_targets_and_ids_are_refused_and_change_nothing() {
    test(async || {
        let node = Node::passthrough(&["--kubelet-dir={dir}/kubelet"]).await;
        let pods = node.kubelet.pods_dir();
        let form = |uid: &str| format!("{}/{uid}/volumes/kubernetes.io~csi/spiffe/mount", pods.display());
        for target in [
            String::new(),
            "relative/mount".to_owned(),
            form("../../etc"),
            form("a\0b"),
            form(&"u".repeat(10_240)),
            node.path("elsewhere/mount").display().to_string(),
            form("no-such-pod"),
        ] {
            let status = publish_at(&node, &target).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{target}: {status}");
            assert!(status.message().contains("target_path"), "{status}");
        }
        for id in ["", "..", "a/b", "a\0b", &"x".repeat(10_240)] {
            let mut request = volume("web").publish_request(&form("u"), false);
            request.volume_id = id.to_owned();
            let status = node.plugin().await.node().await.unwrap().node_publish_volume(request).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{id}: {status}");
            assert!(status.message().contains("volume_id"), "{status}");
        }
        assert_eq!(fs::read_dir(node.path("root/records")).unwrap().count(), 0);
    });
}

#[test]
fn unpublishing_an_unknown_volume_succeeds() {
    test(async || {
        let node = Node::files(&[]).await;
        node.unpublish(&volume("web")).await;
        fs::create_dir_all(node.kubelet.target(&volume("api"))).unwrap();
        node.unpublish(&volume("api")).await;
        assert!(!node.kubelet.target(&volume("api")).exists());
    });
}

#[test]
fn a_target_that_is_a_file_is_refused() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let target = node.kubelet.target(&volume("web"));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(&target, "x").unwrap();
        let status = publish_at(&node, target.to_str().unwrap()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    });
}

fn fails_to_start(node: &Node, says: &str) {
    let output = node.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains(says), "{says:?} in {said}");
}

#[test]
fn impossible_configurations_are_reported_at_startup() {
    test(async || {
        let root = ["--data-root={dir}/root", "--trust-domain=example.org"];
        let node = Node::new(&[FILES, &root]);
        fs::write(node.path("root"), "not a folder").unwrap();
        fails_to_start(&node, "must be a folder");

        let node = Node::new(&[FILES, &root, &["--local-ca-dir={dir}/ca"]]);
        fs::create_dir(node.path("ca")).unwrap();
        fs::write(node.path("ca/ca.crt"), "half").unwrap();
        fails_to_start(&node, "holds only one of ca.crt and ca.key");
        fs::write(node.path("ca/ca.key"), "garbage").unwrap();
        fails_to_start(&node, "cannot be used");

        let node = Node::new(&[FILES, &root]);
        fs::write(node.path("csi.sock"), "precious").unwrap();
        fails_to_start(&node, "a file that is not a socket is already there");

        let node = Node::new(&[PASSTHROUGH, &["--data-root={dir}/root", "--stable-socket-dir={dir}/other/stable"]]);
        fs::create_dir_all(node.path("other")).unwrap();
        run("mount", &["-t", "tmpfs", "other", node.path("other").to_str().unwrap()]);
        fails_to_start(&node, "is not on the same mount as");
    });
}
