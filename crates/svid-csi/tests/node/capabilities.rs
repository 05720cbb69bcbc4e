//! The capabilities of the driver: exactly the ones it needs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;

use rustix::thread::CapabilitySet;

use crate::fixture::{FILES, Node, PASSTHROUGH, is_root_outside, pod, test, until, volume};

const DATA: &[&str] = &["--data-root={dir}/root", "--trust-domain=example.org"];

#[test]
fn no_thread_has_more_capabilities_than_it_needs() {
    test(async || {
        let node = Node::files(&[]).await;
        let needed = CapabilitySet::SYS_ADMIN
            | CapabilitySet::DAC_OVERRIDE
            | CapabilitySet::FOWNER
            | CapabilitySet::CHOWN
            | CapabilitySet::LINUX_IMMUTABLE;
        let threads = fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
        let threads: Vec<_> = threads.map(|thread| thread.unwrap().path().join("status")).collect();
        assert!(threads.len() > 1, "{threads:?}");
        for thread in threads {
            let status = fs::read_to_string(thread).unwrap();
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
            for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
                assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), needed.bits(), "{set}");
            }
            for (set, nothing) in [("CapInh:", 0), ("CapAmb:", 0)] {
                assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), nothing, "{set}");
            }
            assert_eq!(field("NoNewPrivs:"), "1");
        }
    });
}

#[test]
fn without_sys_admin_it_cannot_mount() {
    test(async || {
        let mut node = Node::new(&[FILES, DATA]);
        node.take_away(CapabilitySet::SYS_ADMIN);
        node.spawn();
        until("the driver gives up", async || node.has_ended()).await;
        let log = node.log();
        assert!(log.contains("CAP_SYS_ADMIN is missing; it is needed to mount"), "{log}");
        assert!(log.contains("cannot mount the data tmpfs"), "{log}");
    });
}

#[test]
fn without_dac_override_it_cannot_write_files() {
    test(async || {
        let mut node = Node::new(&[FILES, DATA]);
        node.take_away(CapabilitySet::DAC_OVERRIDE);
        node.start().await;
        let (_, message) = node.refused(&volume("web")).await;
        assert!(message.contains("Permission denied"), "{message}");
        assert!(node.log().contains("CAP_DAC_OVERRIDE is missing"), "{}", node.log());
    });
}

#[test]
fn without_chown_no_group_gets_files() {
    test(async || {
        if !is_root_outside() {
            return;
        }
        let mut node = Node::new(&[FILES, DATA]);
        node.take_away(CapabilitySet::CHOWN);
        node.start().await;
        let mut pod = pod("web");
        pod.fs_group = Some(2000);
        let (_, message) = node.refused(&svid_csi::demo::kubelet::InlineVolume::new(&pod, "spiffe")).await;
        assert!(message.contains("cannot change the group of"), "{message}");
    });
}

#[test]
fn without_fowner_no_socket_of_another_user_is_linked() {
    test(async || {
        if !is_root_outside() || fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap().trim() != "1" {
            return;
        }
        for (capability, is_linked) in [(None, true), (Some(CapabilitySet::FOWNER), false)] {
            let mut node = Node::new(&[PASSTHROUGH, &["--data-root={dir}/root"]]);
            capability.into_iter().for_each(|one| node.take_away(one));
            let _agent = node.agent();
            let socket = node.path("run/agent/agent.sock");
            fs::set_permissions(&socket, fs::Permissions::from_mode(0o755)).unwrap();
            chown(&socket, Some(1000), Some(1000)).unwrap();
            node.start().await;
            let target = node.publish(&volume("web")).await;
            assert_eq!(UnixStream::connect(target.join("agent.sock")).is_ok(), is_linked, "{}", node.log());
        }
    });
}
