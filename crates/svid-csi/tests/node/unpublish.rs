//! Volumes that are difficult to remove: another --kubelet-dir, a program that uses them, files below them.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;

use svid_csi_proto::csi_v1::{NodeGetVolumeStatsRequest, NodeUnpublishVolumeRequest};
use tonic::Code;

use crate::fixture::{Node, run, test, volume};

#[test]
fn a_recorded_volume_can_always_be_unpublished() {
    test(async || {
        let mut node = Node::files(&["--kubelet-dir={dir}/kubelet"]).await;
        let target = node.publish(&volume("web")).await;
        node.kill();
        let elsewhere = format!("--kubelet-dir={}", node.path("elsewhere").display());
        node.drop_arg("--kubelet-dir");
        node.add_args(&[&elsewhere]);
        node.start().await;
        let error = node.kubelet.unpublish(&node.plugin().await, &volume("api")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument), "an unknown one: {error}");
        node.unpublish(&volume("web")).await;
        assert!(!target.exists());
        assert_eq!(fs::read_dir(node.path("root/records")).unwrap().count(), 0);
    });
}

#[test]
fn a_folder_of_the_kubelet_may_have_two_names() {
    test(async || {
        let mut node = Node::new(&[
            crate::fixture::FILES,
            &["--data-root={dir}/root", "--trust-domain=example.org", "--kubelet-dir={dir}/link"],
        ]);
        symlink(node.path("kubelet"), node.path("link")).unwrap();
        node.start().await;
        let web = volume("web");
        let target = node.publish(&web).await;
        assert!(target.join("tls.crt").exists());
        let other_name = node.path("link").join(target.strip_prefix(node.path("kubelet")).unwrap());
        let (plugin, other_name) = (node.plugin().await, other_name.to_str().unwrap().to_owned());
        let mut driver = plugin.node().await.unwrap();
        // The kubelet was restarted with the other name as its --root-dir.
        driver.node_publish_volume(web.publish_request(&other_name, true)).await.unwrap();
        let volume_path = other_name.clone();
        let stats = NodeGetVolumeStatsRequest { volume_id: web.id().to_string(), volume_path, ..Default::default() };
        let condition = driver.node_get_volume_stats(stats).await.unwrap().into_inner().volume_condition.unwrap();
        assert!(!condition.abnormal, "{condition:?}");
        let unpublish = NodeUnpublishVolumeRequest { volume_id: web.id().to_string(), target_path: other_name };
        driver.node_unpublish_volume(unpublish).await.unwrap();
        assert_eq!(node.mounts(&target), 0);
        assert!(!target.exists() && fs::read_dir(node.path("root/records")).unwrap().next().is_none());
    });
}

#[test]
fn a_busy_volume_is_unpublished_and_its_key_is_gone() {
    test(async || {
        let node = Node::files(&[]).await;
        let target = node.publish(&volume("web")).await;
        let inside = fs::File::open(&target).unwrap();
        let key = format!("/proc/self/fd/{}/..data/tls.key", inside.as_raw_fd());
        assert!(fs::read(&key).is_ok());
        node.unpublish(&volume("web")).await;
        assert!(!target.exists());
        assert_eq!(fs::read(&key).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(format!("/proc/self/fd/{}", inside.as_raw_fd())).unwrap().count(), 0);
    });
}

#[test]
fn a_busy_volume_with_the_agents_sockets_is_unpublished() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let _agent = node.agent();
        let target = node.publish(&volume("web")).await;
        let _inside = fs::File::open(&target).unwrap();
        node.unpublish(&volume("web")).await;
        assert!(!target.exists() && node.path("run/agent/agent.sock").exists());
    });
}

#[test]
fn files_below_an_unmounted_volume_are_reported_or_removed() {
    test(async || {
        let node = Node::files(&[]).await;
        let target = node.publish(&volume("web")).await;
        run("umount", &[target.to_str().unwrap()]);
        fs::create_dir_all(target.join("empty/deep")).unwrap();
        fs::create_dir(target.join("..1700000000.000000001")).unwrap();
        for ours in ["tls.key", "..1700000000.000000001/tls.key"] {
            fs::write(target.join(ours), "a key").unwrap();
        }
        fs::write(target.join("no\ntes"), "a person's").unwrap();
        let error = node.kubelet.unpublish(&node.plugin().await, &volume("web")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
        assert!(error.to_string().contains(r"no\ntes"), "it names what is in it: {error}");
        assert!(fs::read(target.join("no\ntes")).is_ok() && !target.join("tls.key").exists(), "{error}");
        fs::remove_file(target.join("no\ntes")).unwrap();
        fs::create_dir_all(target.join("empty/again")).unwrap();
        node.unpublish(&volume("web")).await;
        assert!(!target.exists());
    });
}
