//! The volumes' data, and what the kernel provides.

use std::fs;
use std::process::Command;

use super::{command, finds, healthy, healthy_with, ids, mount, output, unmount};
use crate::fixture::{run, test, volume};

#[test]
fn a_tmpfs_that_is_full_read_only_or_hidden() {
    test(async || {
        let node = healthy(&["--data-size-limit=1Mi"]).await;
        let data = node.path("root/data");
        fs::write(data.join("ballast"), vec![0; 960 * 1024]).unwrap();
        finds(&node, &["data-nearly-full"]).await;
        fs::remove_file(data.join("ballast")).unwrap();
        for number in 0..1_900 {
            fs::write(data.join(format!("ballast{number}")), "").unwrap();
        }
        finds(&node, &["data-inodes-nearly-used"]).await;
        for number in 0..1_900 {
            fs::remove_file(data.join(format!("ballast{number}"))).unwrap();
        }
        mount(&["-o".as_ref(), "remount,ro".as_ref(), data.as_os_str()]);
        finds(&node, &["data-read-only"]).await;
        mount(&["-o".as_ref(), "remount,rw".as_ref(), data.as_os_str()]);
        mount(&["-t".as_ref(), "proc".as_ref(), "proc".as_ref(), data.as_os_str()]);
        let found = ids(&node);
        assert!(found.contains("data-not-on-tmpfs"), "{found:?}");
        unmount(&data);
        fs::create_dir(data.join("volumes/csi-of-nothing")).unwrap();
        finds(&node, &["data-left-over"]).await;
    });
}

#[test]
fn limits_of_the_kernel() {
    test(async || {
        let node = healthy(&[]).await;
        let mut limited = Command::new("unshare");
        limited.args(["--user", "--map-root-user", "sh", "-c"]);
        let doctor =
            format!("\"$0\" doctor --output=short --category=kernel --data-root {}", node.path("root").display());
        limited.arg(format!("echo 0 > /proc/sys/user/max_inotify_instances && {doctor}"));
        let (code, text) = output(limited.arg(env!("CARGO_BIN_EXE_svid-csi")));
        assert!(code == 1 && text.contains("warning inotify-exhausted"), "{text}");
        let open = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count();
        run("prlimit", &["--pid", &node.pid().to_string(), &format!("--nofile={}", open + 3)]);
        finds(&node, &["open-files-nearly-used"]).await;
    });
}

/// Sockets of pods may take up a quarter of the driver's descriptors, long before the driver itself has none left.
#[test]
fn sockets_that_pods_may_have() {
    test(async || {
        let node = healthy_with(&[], |node| node.limit_descriptors(160)).await;
        let plugin = node.plugin().await;
        let sockets = |pod: &str| volume(pod).attribute("svid-csi/delivery", "workload-api");
        for number in 1..15 {
            node.kubelet.publish(&plugin, &sockets(&format!("socket-{number}"))).await.unwrap();
        }
        finds(&node, &[]).await;
        node.kubelet.publish(&plugin, &sockets("socket-15")).await.unwrap();
        finds(&node, &["open-files-nearly-used"]).await;
        let (_, text) = output(&mut command(&node, &["--category=kernel", "--output=short"]));
        assert!(text.contains("sockets of pods have 32 of the 40 that they may have"), "{text}");
    });
}

#[test]
fn a_reader_that_goes_away_changes_nothing() {
    test(async || {
        let mut node = healthy(&[]).await;
        node.kill();
        let doctor = format!("\"$0\" doctor --data-root {} | true; exec 3>&1; ", node.path("root").display());
        let script = doctor + "( \"$0\" doctor --data-root / ; echo $? >&3 ) | true";
        let output = Command::new("sh").arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_svid-csi")).output().unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"2\n"[..], &b""[..]));
        let (code, answer) = super::doctor(&node, &[]);
        assert!(code == 2 && ids(&node).iter().eq(["driver-unreachable"]), "{answer}");
    });
}

#[test]
fn keys_that_may_be_swapped() {
    test(async || {
        let node = healthy(&[]).await;
        finds(&node, &[]).await;
        let swaps = node.path("swaps");
        fs::write(&swaps, "Filename Type Size Used Priority\n/swapfile file 1024 0 -2\n").unwrap();
        mount(&["--bind".as_ref(), swaps.as_os_str(), "/proc/swaps".as_ref()]);
        let data = node.path("root/data");
        mount(&["-t".as_ref(), "tmpfs".as_ref(), "none".as_ref(), data.as_os_str()]);
        assert!(ids(&node).contains("data-may-be-swapped"));
        unmount("/proc/swaps".as_ref());
        assert!(!ids(&node).contains("data-may-be-swapped"));
    });
}
