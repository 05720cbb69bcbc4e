//! socket -> socket-dir.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use tonic::Code;

use crate::fixture::{Node, is_root_outside, run, test, unseal_below, until, volume};

async fn reaches(socket: &Path, listener: &std::os::unix::net::UnixListener) {
    until("the pod reaches the agent", async || UnixStream::connect(socket).is_ok()).await;
    listener.accept().unwrap();
}

#[test]
fn publishing_twice_mounts_once() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let agent = node.agent();
        let target = node.publish(&volume("web")).await;
        assert_eq!(node.publish(&volume("web")).await, target);
        assert_eq!(node.mounts(&target), 1);
        reaches(&target.join("agent.sock"), &agent).await;
        assert_eq!(node.trouble(&volume("web")).await, None);
        node.unpublish(&volume("web")).await;
        node.unpublish(&volume("web")).await;
        assert!(!target.exists());
    });
}

/// Each peer of the mount of the pods folder would slow down every mount below it.
#[test]
fn volumes_have_no_peers() {
    test(async || {
        let mut node = Node::new(&[crate::fixture::PASSTHROUGH, &["--data-root={dir}/root"]]);
        let whole = node.dir.path().to_str().unwrap();
        run("mount", &["--bind", whole, whole]);
        run("mount", &["--make-shared", whole]);
        node.start().await;
        let (web, api) = (node.publish(&volume("web")).await, node.publish(&volume("api")).await);
        let groups: BTreeSet<_> = [node.dir.path(), &web, &api].map(peer_group).into();
        assert_eq!(groups.len(), 3, "{groups:?}");
    });
}

/// The peer group of the mount at a path (proc_pid_mountinfo(5)).
fn peer_group(path: &Path) -> String {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut mounts = mountinfo.lines().map(|line| line.split(' '));
    let mut mount = mounts.find(|fields| fields.clone().nth(4) == path.to_str()).unwrap();
    mount.find(|field| field.starts_with("shared:")).unwrap().to_owned()
}

#[test]
fn two_publishes_at_once_mount_once() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let plugin = node.plugin().await;
        let web = volume("web");
        let publish = || node.kubelet.publish(&plugin, &web);
        let (a, b, c, d) = tokio::join!(publish(), publish(), publish(), publish());
        for published in [a, b, c, d] {
            assert_eq!(node.mounts(&published.unwrap()), 1);
        }
    });
}

#[test]
fn a_pod_may_start_before_the_agent() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let target = node.publish(&volume("web")).await;
        let trouble = node.trouble(&volume("web")).await.unwrap();
        assert!(trouble.contains("the agent is not running"), "{trouble}");
        let agent = node.agent();
        reaches(&target.join("agent.sock"), &agent).await;
        assert_eq!(node.trouble(&volume("web")).await, None);
    });
}

#[test]
fn a_recreated_socket_directory_heals() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let agent = node.agent();
        let target = node.publish(&volume("web")).await;
        reaches(&target.join("agent.sock"), &agent).await;
        drop(agent);
        fs::remove_dir_all(node.path("run/agent")).unwrap();
        until("the dead socket is dropped", async || !target.join("agent.sock").exists()).await;
        let agent = node.agent();
        reaches(&target.join("agent.sock"), &agent).await;
        fs::rename(node.path("run/agent"), node.path("run/old")).unwrap();
        drop(agent);
        let agent = node.agent();
        until("the link leads to the new agent", async || {
            UnixStream::connect(target.join("agent.sock")).is_ok() && {
                agent.set_nonblocking(true).unwrap();
                agent.accept().is_ok()
            }
        })
        .await;
        assert_eq!(node.trouble(&volume("web")).await, None);
    });
}

#[test]
fn a_directory_that_cannot_be_followed_is_reported_dead() {
    test(async || {
        let mut node = Node::new(&[crate::fixture::PASSTHROUGH, &["--data-root={dir}/root"]]);
        let agent = node.path("run/agent");
        fs::create_dir(&agent).unwrap();
        run("mount", &["--bind", agent.to_str().unwrap(), agent.to_str().unwrap()]);
        node.start().await;
        assert!(node.log().contains("mount the directory above it into the driver"), "{}", node.log());
        let _agent = node.agent();
        let target = node.publish(&volume("web")).await;
        assert_eq!(node.trouble(&volume("web")).await, None);
        run("umount", &["--lazy", agent.to_str().unwrap()]);
        fs::remove_dir_all(&agent).unwrap();
        let (code, _) = node.refused(&volume("api")).await;
        assert_eq!(code, Code::Unavailable, "there is no agent yet");
        let _new = node.agent();
        let trouble = node.trouble(&volume("web")).await.unwrap();
        assert!(trouble.contains("deleted or re-created"), "{trouble}");
        node.publish(&volume("web")).await;
        assert_eq!((node.trouble(&volume("web")).await, node.mounts(&target)), (None, 1));
    });
}

#[test]
fn a_failed_republish_leaves_the_mount() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let target = node.publish(&volume("web")).await;
        let (code, message) = node.refused(&volume("web").attribute("svid-csi/nonsense", "x")).await;
        assert!(message.contains("nonsense"), "{message}");
        assert_eq!((code, node.mounts(&target)), (Code::Unavailable, 1));
    });
}

#[test]
fn a_foreign_mount_is_left_alone() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let target = node.publish(&volume("web")).await;
        run("mount", &["-t", "tmpfs", "foreign", target.to_str().unwrap()]);
        fs::write(target.join("precious"), "x").unwrap();
        let error = node.kubelet.unpublish(&node.plugin().await, &volume("web")).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
        let (code, message) = node.refused(&volume("web")).await;
        assert_eq!(code, Code::Unavailable);
        assert!(message.contains("something else is mounted"), "{message}");
        assert!(target.join("precious").exists());
        run("umount", &[target.to_str().unwrap()]);
        node.unpublish(&volume("web")).await;
    });
}

#[test]
fn a_stacked_mount_is_removed_completely() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let target = node.publish(&volume("web")).await;
        run("mount", &["--bind", node.path("run/.agent.svid-csi").to_str().unwrap(), target.to_str().unwrap()]);
        assert_eq!(node.mounts(&target), 2);
        node.unpublish(&volume("web")).await;
        assert!(!target.exists());
    });
}

#[test]
fn a_pod_without_read_only_runs_if_that_is_allowed() {
    test(async || {
        let mut web = volume("web");
        web.read_only = false;
        let node = Node::passthrough(&[]).await;
        let (code, message) = node.refused(&web).await;
        assert_eq!(code, Code::InvalidArgument);
        assert!(message.contains("pod.spec.volumes[].csi.readOnly must be set to 'true'"), "{message}");
        let node = Node::passthrough(&["--allow-missing-read-only"]).await;
        if !is_root_outside() {
            // Nothing can be sealed in a user namespace.
            assert_eq!(node.refused(&web).await.0, Code::FailedPrecondition);
            return;
        }
        let target = node.publish(&web).await;
        let error = fs::write(target.join("x"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn the_target_folder_has_the_predecessors_mode() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let target = node.publish(&volume("web")).await;
        run("umount", &[target.to_str().unwrap()]);
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o750);
    });
}

#[test]
fn a_directory_deleted_under_the_driver_is_reported_with_the_reason() {
    test(async || {
        let mut node = Node::new(&[&["--profile=csi.spiffe.io", "-workload-api-socket-dir={dir}/mounted"]]);
        let (host, mounted) = (node.path("host"), node.path("mounted"));
        for folder in [&host, &mounted] {
            fs::create_dir(folder).unwrap();
        }
        run("mount", &["--bind", host.to_str().unwrap(), mounted.to_str().unwrap()]);
        node.start().await;
        node.publish(&volume("web")).await;
        fs::remove_dir(&host).unwrap();
        fs::create_dir(&host).unwrap();
        let trouble = node.trouble(&volume("web")).await.unwrap();
        assert!(trouble.contains("deleted or re-created"), "{trouble}");
        let (code, message) = node.refused(&volume("api")).await;
        assert_eq!(code, Code::Unavailable);
        assert!(message.contains("restart the driver's pod"), "{message}");
        node.unpublish(&volume("web")).await;
    });
}

#[test]
fn a_mount_over_the_agents_directory_falls_back_to_the_plain_bind() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let agent = node.path("run/agent");
        fs::create_dir(&agent).unwrap();
        run("mount", &["-t", "tmpfs", "agent", agent.to_str().unwrap()]);
        let listener = node.agent();
        // A mount does not cause an event, but a check of a volume notices it.
        let early = node.publish(&volume("early")).await;
        let _ = node.trouble(&volume("early")).await;
        let target = node.publish(&volume("web")).await;
        reaches(&target.join("agent.sock"), &listener).await;
        assert_eq!(node.trouble(&volume("web")).await, None);
        node.publish(&volume("early")).await;
        assert_eq!((node.trouble(&volume("early")).await, node.mounts(&early)), (None, 1));
    });
}

#[test]
fn losing_the_folder_above_the_agents_does_not_end_the_driver() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let _agent = node.agent();
        node.publish(&volume("web")).await;
        // The driver restores missing seals.
        until("the folder is removed", async || {
            unseal_below(&node.path("run"));
            fs::remove_dir_all(node.path("run")).is_ok()
        })
        .await;
        let agent = node.agent();
        until("a new pod reaches the agent", async || {
            let published = node.kubelet.publish(&node.plugin().await, &volume("api")).await;
            published.is_ok_and(|target| UnixStream::connect(target.join("agent.sock")).is_ok())
        })
        .await;
        agent.accept().unwrap();
    });
}

#[test]
fn a_stable_directory_may_be_requested_before_there_is_an_agent() {
    test(async || {
        let args = ["--profile=csi.spiffe.io", "-workload-api-socket-dir={dir}/run/spire/agent"];
        let mut node = Node::new(&[&args, &["--stable-socket-dir={dir}/run/stable"]]);
        node.start().await;
        let target = node.publish(&volume("web")).await;
        fs::create_dir_all(node.path("run/spire/agent")).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(node.path("run/spire/agent/agent.sock")).unwrap();
        reaches(&target.join("agent.sock"), &listener).await;
    });
}

#[test]
fn a_socket_without_a_listener_is_not_an_agent() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        drop(node.agent());
        node.publish(&volume("web")).await;
        let trouble = node.trouble(&volume("web")).await.unwrap();
        assert!(trouble.contains("accepts connections"), "{trouble}");
    });
}

#[test]
fn the_number_of_volumes_per_pod_is_limited() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let pod = crate::fixture::pod("web");
        let nth = |number: u32| svid_csi::demo::kubelet::InlineVolume::new(&pod, &format!("v{number}"));
        for number in 0..16 {
            node.publish(&nth(number)).await;
        }
        assert_eq!(node.refused(&nth(16)).await.0, Code::ResourceExhausted);
        node.publish(&volume("api")).await;
        node.unpublish(&nth(3)).await;
        node.publish(&nth(16)).await;
    });
}
