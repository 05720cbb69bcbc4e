//! The agent's directory in pods: all of its sockets with all their names, and nothing that a pod has added.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::thread::CapabilitySet;
use tonic::Code;

use crate::endpoints::metric;
use crate::fixture::{Node, PASSTHROUGH, is_root_outside, run, test, until, volume};
use crate::hostile::{unseal, writable_in_pod};

const LENIENT: &[&str] = &["--data-root={dir}/root", "--allow-missing-read-only", "--metrics-address=127.0.0.1:0"];

async fn reaches(socket: &Path, listener: &UnixListener) {
    until("the pod reaches the agent", async || UnixStream::connect(socket).is_ok()).await;
    listener.accept().unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Container runtimes clear the read-only flag of volumes without `readOnly`, and so can CAP_SYS_ADMIN.
#[test]
fn a_pod_with_a_writable_mount_cannot_change_the_shared_directory() {
    test(async || {
        if !is_root_outside() {
            return;
        }
        let mut node = Node::new(&[PASSTHROUGH, LENIENT]);
        node.start().await;
        let agent = node.agent();
        let mut web = volume("web");
        web.read_only = false;
        let target = node.publish(&web).await;
        let socket = target.join("agent.sock");
        reaches(&socket, &agent).await;
        run("mount", &["-o", "remount,bind,rw", target.to_str().unwrap()]);
        fs::remove_file(&socket).unwrap_err();
        fs::rename(&socket, target.join("moved")).unwrap_err();
        UnixListener::bind(target.join("other.sock")).unwrap_err();
        fs::create_dir(target.join("folder")).unwrap_err();

        let agents = node.path("run/agent/agent.sock");
        let before = mode(&agents);
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o000)).unwrap();
        until("the mode is put back", async || mode(&agents) == before).await;
        until("it is counted", async || metric(&node, "agent_directory_changes_undone").await == Some(1.0)).await;
        assert!(node.log().contains("restoring it"), "{}", node.log());
        fs::set_permissions(&agents, fs::Permissions::from_mode(0o600)).unwrap();
        reaches(&node.publish(&volume("api")).await.join("agent.sock"), &agent).await;
        assert_eq!(mode(&agents), 0o600, "what the agent does is its right");
        until("it is saved", async || granted(&node).contains(&format!("\"mode\":{}", 0o600))).await;
        node.kill();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o000)).unwrap();
        node.start().await;
        until("the mode is put back after a restart", async || mode(&agents) == 0o600).await;
    });
}

/// As in the moment in which the driver has opened a seal.
#[test]
fn a_pod_without_read_only_deceives_only_itself() {
    test(async || {
        if !is_root_outside() {
            return;
        }
        let mut node = Node::new(&[PASSTHROUGH, LENIENT]);
        let forgotten = node.path("run/.agent.svid-csi.pods").join(volume("forgotten").id().as_str());
        fs::create_dir_all(&forgotten).unwrap();
        node.start().await;
        assert!(!forgotten.exists());
        let agent = node.agent();
        let writable = |name| {
            let mut volume = volume(name);
            volume.read_only = false;
            volume
        };
        let web = node.publish(&writable("web")).await;
        let others = [node.publish(&writable("api")).await, node.publish(&volume("db")).await];
        for target in others.iter().chain([&web]) {
            reaches(&target.join("agent.sock"), &agent).await;
        }
        let in_pod = writable_in_pod(&node, &web);
        let impostors = fs::File::open(&in_pod).unwrap();
        unseal(&in_pod);
        let socket = in_pod.join("agent.sock");
        let _ = fs::remove_file(&socket);
        let impostor = UnixListener::bind(&socket);
        for target in &others {
            reaches(&target.join("agent.sock"), &agent).await;
        }
        drop((impostors, impostor));
        reaches(&socket, &agent).await;
        assert!(node.log().contains("a pod has changed its directory"), "{}", node.log());
        // A volume without a record keeps what is mounted.
        node.kill();
        drop(agent);
        fs::remove_file(node.path("run/agent/agent.sock")).unwrap();
        for records in ["root/records", "root/data/records"] {
            let _ = fs::remove_dir_all(node.path(records));
        }
        node.start().await;
        let agent = node.agent();
        for target in others.iter().chain([&web]) {
            reaches(&target.join("agent.sock"), &agent).await;
        }
        run("umount", &[in_pod.to_str().unwrap()]);
        node.unpublish(&volume("web")).await;
        let own = node.path("run/.agent.svid-csi.pods");
        let left = fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|name| !name.starts_with('.')).count(), 1, "that of the other pod");
        // The driver may be sealing it again.
        until("it is removed", async || {
            unseal(&own);
            fs::remove_dir_all(&own).is_ok()
        })
        .await;
        for name in ["api", "db"] {
            node.unpublish(&volume(name)).await;
        }
    });
}

fn granted(node: &Node) -> String {
    let folder = node.path("root");
    let saved = ["agent-sockets.json", "data/agent-sockets.json"].map(|name| fs::read_to_string(folder.join(name)));
    saved.into_iter().flatten().collect()
}

#[test]
fn without_a_seal_only_read_only_volumes_are_published() {
    test(async || {
        let mut web = volume("web");
        web.read_only = false;
        let mut unsealed = Node::new(&[PASSTHROUGH, LENIENT]);
        unsealed.take_away(CapabilitySet::LINUX_IMMUTABLE);
        let plain = Node::new(&[PASSTHROUGH, LENIENT]);
        let folder = plain.path("run/agent");
        fs::create_dir(&folder).unwrap();
        run("mount", &["--bind", folder.to_str().unwrap(), folder.to_str().unwrap()]);
        for mut node in [unsealed, plain] {
            node.start().await;
            let _agent = node.agent();
            let (code, message) = node.refused(&web).await;
            assert_eq!(code, Code::FailedPrecondition, "{message}");
            assert!(message.contains("write readOnly: true in the volume"), "{message}");
            let target = node.publish(&volume("api")).await;
            until("the socket exists", async || target.join("agent.sock").exists()).await;
        }
    });
}

#[test]
fn links_beside_the_socket_are_followed() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let agent = node.agent();
        let target = node.publish(&volume("web")).await;
        let (link, seen) = (node.path("run/agent/socket"), target.join("socket"));
        symlink("agent.sock", &link).unwrap();
        reaches(&seen, &agent).await;
        let other = UnixListener::bind(node.path("run/agent/other.sock")).unwrap();
        fs::remove_file(&link).unwrap();
        until("the name goes with the link", async || !seen.exists()).await;
        symlink(node.path("run/agent/other.sock"), &link).unwrap();
        reaches(&seen, &other).await;
        symlink("/run/elsewhere.sock", node.path("run/agent/out")).unwrap();
        until("it is reported", async || node.log().contains("ignoring links that lead out of the agent's directory"))
            .await;
        assert!(!target.join("out").exists());
        assert_eq!(node.trouble(&volume("web")).await, None);
    });
}

#[test]
fn an_agents_directory_that_is_a_link_is_followed() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let bind = |folder: &str| {
            fs::create_dir(node.path(folder)).unwrap();
            UnixListener::bind(node.path(folder).join("agent.sock")).unwrap()
        };
        let (first, link) = (bind("run/first"), node.path("run/agent"));
        symlink("first", &link).unwrap();
        let target = node.publish(&volume("web")).await;
        reaches(&target.join("agent.sock"), &first).await;
        assert_eq!(node.trouble(&volume("web")).await, None);
        let second = bind("run/second");
        drop(first);
        fs::remove_file(&link).unwrap();
        symlink(node.path("run/second"), &link).unwrap();
        reaches(&target.join("agent.sock"), &second).await;
        if !is_root_outside() {
            return;
        }
        let of_another_user = node.path("run/of-another-user");
        symlink("first", &of_another_user).unwrap();
        lchown(&of_another_user, Some(1000), Some(1000)).unwrap();
        fs::rename(&of_another_user, &link).unwrap();
        let plugin = node.plugin().await;
        until("new pods are refused", async || node.kubelet.publish(&plugin, &volume("probe")).await.is_err()).await;
        assert_eq!(node.trouble(&volume("web")).await, None, "who has the second agent keeps it");
        let (code, message) = node.refused(&volume("api")).await;
        assert_eq!(code, Code::FailedPrecondition, "{message}");
        assert!(message.contains("the agent's sockets cannot be reached"), "{message}");
    });
}

#[test]
fn sockets_in_folders_below_are_delivered_with_their_folders() {
    test(async || {
        let mut node = Node::new(&[PASSTHROUGH, &["--data-root={dir}/root"]]);
        fs::create_dir_all(node.path("run/agent/public")).unwrap();
        let agent = UnixListener::bind(node.path("run/agent/public/api.sock")).unwrap();
        node.start().await;
        let target = node.publish(&volume("web")).await;
        reaches(&target.join("public/api.sock"), &agent).await;
        assert_eq!(node.trouble(&volume("web")).await, None);
        assert!(node.log().contains("in subfolders of its directory"), "{}", node.log());
        drop(agent);
        assert!(node.trouble(&volume("web")).await.unwrap().contains("accepts connections"));
    });
}

#[test]
fn a_pod_with_the_agents_own_directory_is_well_after_the_driver_has_a_stable_one() {
    test(async || {
        let mut node = Node::new(&[PASSTHROUGH, &["--data-root={dir}/root"]]);
        fs::create_dir_all(node.path("run/agent/public")).unwrap();
        let below = UnixListener::bind(node.path("run/agent/public/api.sock")).unwrap();
        node.start().await;
        let target = node.publish(&volume("web")).await;
        reaches(&target.join("public/api.sock"), &below).await;
        let agent = node.agent();
        until("the choice changes", async || node.log().contains("directory for new pods has changed")).await;
        reaches(&node.publish(&volume("api")).await.join("agent.sock"), &agent).await;
        reaches(&target.join("agent.sock"), &agent).await;
        assert_eq!(node.trouble(&volume("web")).await, None);
    });
}

#[test]
fn sockets_in_folders_below_are_named_if_they_are_not_delivered() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let agent = node.agent();
        let target = node.publish(&volume("web")).await;
        reaches(&target.join("agent.sock"), &agent).await;
        fs::create_dir(node.path("run/agent/private")).unwrap();
        let _admin = UnixListener::bind(node.path("run/agent/private/admin.sock")).unwrap();
        until("it is named", async || {
            node.log().contains("pods do not get sockets in subfolders") && node.log().contains("private/admin.sock")
        })
        .await;
        symlink("private/admin.sock", node.path("run/agent/admin.sock")).unwrap();
        until("a link delivers it", async || target.join("admin.sock").exists()).await;
    });
}
