//! The socket is accessible to everyone, in a folder that only its pod can reach.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::node;
use crate::fixture::{run, test, volume};

const NOBODY: u32 = 65_534;

/// The result when another user on the host connects to the socket.
fn connect_as_nobody(socket: &Path) -> String {
    // The path may be too long for connect(2), so the test changes into a folder near it.
    let script = "
import os, socket, sys
folder, name = os.path.split(sys.argv[1])
try:
    os.chdir(folder)
    socket.socket(socket.AF_UNIX).connect(name)
    print('connected')
except OSError as error:
    print(error.strerror)
";
    let tried = Command::new("python3")
        .args(["-c", script])
        .arg(socket)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .output()
        .unwrap();
    String::from_utf8(tried.stdout).unwrap().trim().to_owned()
}

/// Only the real root can become another user.
fn is_real_root() -> bool {
    fs::read_to_string("/proc/self/uid_map").unwrap().split_whitespace().last() == Some("4294967295")
        && fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn others_on_the_host_cannot_reach_a_pods_socket_and_any_user_in_the_pod_can() {
    test(async || {
        if !is_real_root() {
            return;
        }
        let node = node().await;
        let target = node.publish(&volume("web")).await;
        // Only folders made by the driver and the kubelet block the way.
        for folder in [node.dir.path(), &node.path("root"), &node.path("kubelet")] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        let on_tmpfs = node.path(&format!("root/data/volumes/{}/agent.sock", volume("web").id()));
        let read_only = node.path(&format!("root/data/read-only/{}/agent.sock", volume("web").id()));
        for socket in [&on_tmpfs, &read_only, &target.join("agent.sock"), &target.join("spire-agent.sock")] {
            assert_eq!(connect_as_nobody(socket), "Permission denied", "{}", socket.display());
        }
        let inside = tempfile::tempdir().unwrap();
        fs::set_permissions(inside.path(), Permissions::from_mode(0o755)).unwrap();
        run("mount", &["--bind", target.to_str().unwrap(), inside.path().to_str().unwrap()]);
        assert_eq!(connect_as_nobody(&inside.path().join("agent.sock")), "connected", "as the pod sees it");
        run("umount", &[inside.path().to_str().unwrap()]);
    });
}
