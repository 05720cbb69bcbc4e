//! Record, mount and log of a volume after failures and interference by other programs.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use rustix::fs::StatVfsMountFlags;

use crate::endpoints::renew_all;
use crate::fixture::{FILES, Node, is_root_outside, run, serial, test, until, volume};
use crate::restart::{inside, lose_data_root};

const ADMIN: &str = "--admin-socket={dir}/admin.sock";

#[test]
fn a_target_unmounted_by_another_program_shows_the_same_data_again() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let target = node.publish(&volume("web")).await;
        let inside = inside(&node, &target);
        let before = serial(&inside);
        node.kill();
        lose_data_root(&node);
        node.start().await;
        until("the new CA's identity arrives", async || serial(&inside) != before).await;
        for while_it_runs in [true, false] {
            if !while_it_runs {
                node.kill();
            }
            run("umount", &[target.to_str().unwrap()]);
            if !while_it_runs {
                node.start().await;
            }
            node.publish(&volume("web")).await;
            assert_eq!((serial(&target), node.mounts(&target)), (serial(&inside), 1), "{while_it_runs}");
            let error = fs::write(target.join("x"), "x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
            let before = serial(&target);
            renew_all(&node).await;
            until("the pod sees the renewal", async || serial(&inside) != before).await;
            assert_eq!(serial(&target), serial(&inside));
        }
        node.unpublish(&volume("web")).await;
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0, "no key lingers behind the mount");
        assert_eq!(fs::read_dir(node.path("root/data/volumes")).unwrap().count(), 0);
    });
}

#[test]
fn a_changed_read_only_mounts_the_other_directory() {
    test(async || {
        if !is_root_outside() {
            return;
        }
        let node = Node::passthrough(&["--allow-missing-read-only"]).await;
        let mut web = volume("web");
        let mut shown = Vec::new();
        for read_only in [true, false, true] {
            web.read_only = read_only;
            let target = node.publish(&web).await;
            // No pod can make it writable, whatever the kubelet does with the container's own mount.
            let flags = rustix::fs::statvfs(&target).unwrap().f_flag;
            assert!(flags.contains(StatVfsMountFlags::RDONLY), "read_only: {read_only}");
            assert_eq!(node.mounts(&target), 1, "read_only: {read_only}");
            shown.push(fs::metadata(&target).unwrap().ino());
        }
        assert!(shown[0] == shown[2] && shown[0] != shown[1], "only pods with readOnly share a directory: {shown:?}");
    });
}

#[test]
fn no_files_are_left_if_the_pod_gets_sockets_instead() {
    test(async || {
        let both = ["--workload-api-socket-dir={dir}/run/agent", "--allow-plan=socket:socket-dir"];
        let mut node = Node::new(&[FILES, &["--data-root={dir}/root", "--trust-domain=example.org", ADMIN], &both]);
        node.start().await;
        let _agent = node.agent();
        for delivery in ["files", "workload-api"] {
            node.drop_arg("--delivery");
            node.add_args(&[&format!("--delivery={delivery}")]);
            node.kill();
            node.start().await;
            let target = node.publish(&volume("web")).await;
            let passed =
                volume("web").attribute("svid-csi/source", "socket").attribute("svid-csi/delivery", "socket-dir");
            assert_eq!(node.publish(&passed).await, target);
            assert!(target.join("agent.sock").exists() && !target.join("tls.key").exists());
            for folder in ["root/data/volumes", "root/data/kept"] {
                assert_eq!(fs::read_dir(node.path(folder)).unwrap().count(), 0, "{delivery}: {folder}");
            }
            node.kill();
            node.start().await;
            assert_eq!((node.mounts(&target), node.trouble(&volume("web")).await), (1, None));
            node.unpublish(&volume("web")).await;
        }
    });
}

#[test]
fn every_identity_that_a_pod_can_read_is_in_the_audit_log() {
    test(async || {
        let node = Node::files(&[ADMIN]).await;
        let target = node.publish(&volume("web")).await;
        let record = node.path(&format!("root/records/.{}.json.new", volume("web").id()));
        fs::create_dir_all(record.join("in the way")).unwrap();
        let before = serial(&target);
        renew_all(&node).await;
        until("there is another identity", async || serial(&target) != before).await;
        let seen = serial(&target);
        assert!(node.log().contains(&seen), "{seen}: {}", node.log());
        assert!(
            !fs::read_to_string(node.path(&format!("root/records/{}.json", volume("web").id())))
                .unwrap()
                .contains(&seen)
        );
    });
}
