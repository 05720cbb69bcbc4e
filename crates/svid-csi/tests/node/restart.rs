//! kill -9, SIGTERM, reboots and lost mounts.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::mount::MountFlags;
use svid_csi::demo::kubelet::Kubelet;
use svid_csi_testkit::kill_rounds;
use tonic::Code;

use crate::endpoints::{get, renew_all};
use crate::fixture::{FILES, Node, PASSTHROUGH, run, serial, test, until, volume};

const ADMIN: &str = "--admin-socket={dir}/admin.sock";

async fn is_renewed(node: &Node, target: &Path) {
    let before = serial(target);
    renew_all(node).await;
    until("the volume is renewed", async || serial(target) != before).await;
    assert_eq!(node.mounts(target), 1);
}

/// The volume from the view of its pod: a separate mount, created at its start.
pub(crate) fn inside(node: &Node, target: &Path) -> std::path::PathBuf {
    let inside = node.path("inside");
    fs::create_dir_all(&inside).unwrap();
    run("mount", &["--bind", target.to_str().unwrap(), inside.to_str().unwrap()]);
    inside
}

/// A node whose data root is on a shared mount, as with mountPropagation: Bidirectional.
pub(crate) async fn shared(args: &[&[&str]]) -> Node {
    let mut node = Node::new(args);
    share_root(&node);
    node.start().await;
    node
}

pub(crate) fn share_root(node: &Node) {
    let root = node.path("root");
    fs::create_dir_all(&root).unwrap();
    run("mount", &["--bind", root.to_str().unwrap(), root.to_str().unwrap()]);
    run("mount", &["--make-shared", root.to_str().unwrap()]);
    take_the_place_of_the_host();
}

/// A driver that sees the host's processes compares its mounts with those of process 1, which has none of this test's. If
/// that cannot be changed, the data root counts as one that ends with the driver's container.
fn take_the_place_of_the_host() {
    const OF_HOST: &str = "/proc/1/mountinfo";
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // In a process namespace of its own, the test is process 1.
    let is_first = std::process::id() == 1;
    if is_first || mountinfo.lines().any(|line| line.split(' ').nth(4) == Some(OF_HOST)) {
        return;
    }
    let own = format!("/proc/{}/mountinfo", std::process::id());
    let _ = Command::new("mount").args(["--bind", &own, OF_HOST]).stderr(Stdio::null()).status();
}

pub(crate) fn make_root_private(node: &Node) {
    run("mount", &["--make-private", node.path("root").to_str().unwrap()]);
}

const LOCAL_CA: &[&str] = &["--data-root={dir}/root", "--trust-domain=example.org", ADMIN];

#[test]
fn volumes_survive_kill_9() {
    test(async || {
        let mut node = shared(&[FILES, LOCAL_CA]).await;
        let target = node.publish(&volume("web")).await;
        let inside = inside(&node, &target);
        let before = serial(&target);
        node.kill();
        let error = node.kubelet.unpublish(&node_plugin_gone(&node).await, &volume("web")).await;
        assert_eq!(error.unwrap_err().code(), Some(Code::Unavailable), "requests meanwhile do not hang");
        node.start().await;
        assert_eq!(serial(&target), before, "the CA is the same, so nothing is issued again");
        is_renewed(&node, &target).await;
        assert_eq!(serial(&inside), serial(&target), "the running pod sees it too");
        node.publish(&volume("web")).await;
        assert_eq!(node.mounts(&target), 1);
        node.unpublish(&volume("web")).await;
    });
}

/// A plugin to call while no driver answers.
async fn node_plugin_gone(node: &Node) -> svid_csi::demo::kubelet::Plugin {
    let mut other = Node::files(&[]).await;
    let mut plugin = other.plugin().await;
    other.kill();
    plugin.socket = node.path("csi.sock");
    plugin
}

#[test]
fn renewal_continues_if_the_data_root_disappeared_with_the_container() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let target = node.publish(&volume("web")).await;
        let inside = inside(&node, &target);
        for _ in 0..3 {
            let before = serial(&inside);
            node.kill();
            lose_data_root(&node);
            node.start().await;
            until("the new CA's identity arrives", async || serial(&inside) != before).await;
            is_renewed(&node, &target).await;
            // As a container with CAP_SYS_ADMIN can do, while the driver runs and while it does not.
            rustix::mount::mount_remount(&target, MountFlags::RDONLY, c"").unwrap();
            is_renewed(&node, &target).await;
            rustix::mount::mount_remount(&target, MountFlags::RDONLY, c"").unwrap();
            assert_eq!(serial(&inside), serial(&target));
        }
        node.publish(&volume("web")).await;
        node.unpublish(&volume("web")).await;
        assert!(!target.exists());
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0, "no key lingers behind the mount");
    });
}

pub(crate) fn lose_data_root(node: &Node) {
    let data = node.path("root/data");
    run("umount", &["--recursive", "--lazy", data.to_str().unwrap()]);
}

#[test]
fn a_reboot_ends_in_clean_unpublish_and_working_republish() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let (web, api) = (volume("web"), volume("api"));
        let (web_target, api_target) = (node.publish(&web).await, node.publish(&api).await);
        node.kill();
        lose_data_root(&node);
        for target in [&web_target, &api_target] {
            run("umount", &[target.to_str().unwrap()]);
            assert!(target.is_dir(), "the target folder is left");
        }
        node.start().await;
        node.unpublish(&web).await;
        assert!(!web_target.exists());
        node.publish(&api).await;
        is_renewed(&node, &api_target).await;
    });
}

#[test]
fn volumes_whose_pod_is_gone_are_dropped() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let target = node.publish(&volume("web")).await;
        let kept = node.publish(&volume("api")).await;
        node.kill();
        run("umount", &[target.to_str().unwrap()]);
        fs::remove_dir_all(node.kubelet.pods_dir().join("uid-of-web")).unwrap();
        node.start().await;
        let status = get(&node, "/status").await;
        assert!(!status.contains("shop/web") && status.contains("shop/api"), "{status}");
        assert_eq!(fs::read_dir(node.path("root/data/volumes")).unwrap().count(), 1);
        is_renewed(&node, &kept).await;
    });
}

#[test]
fn a_missing_pods_folder_is_not_a_node_without_pods() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        node.publish(&volume("web")).await;
        node.kill();
        let pods = node.kubelet.pods_dir();
        run("mount", &["-t", "tmpfs", "empty", pods.to_str().unwrap()]);
        node.start().await;
        assert!(get(&node, "/status").await.contains("shop/web"));
        node.kill();
        run("umount", &[pods.to_str().unwrap()]);
        node.start().await;
        is_renewed(&node, &node.kubelet.target(&volume("web"))).await;
    });
}

#[test]
fn a_foreign_mount_is_never_touched() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let target = node.publish(&volume("web")).await;
        node.kill();
        run("mount", &["-t", "tmpfs", "foreign", target.to_str().unwrap()]);
        fs::write(target.join("precious"), "x").unwrap();
        node.start().await;
        assert!(target.join("precious").exists());
        assert!(node.log().contains("something else is mounted at"), "{}", node.log());
        run("umount", &[target.to_str().unwrap()]);
        node.publish(&volume("web")).await;
        is_renewed(&node, &target).await;
    });
}

#[test]
fn records_that_cannot_be_read_leave_the_others_unharmed() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let pods = ["web", "api", "db"];
        for pod in pods {
            node.publish(&volume(pod)).await;
        }
        let record = |pod| node.path(&format!("root/records/{}.json", volume(pod).id()));
        let (cut, newer) = (record("web"), record("api"));
        node.kill();
        let json = fs::read(&cut).unwrap();
        fs::write(&cut, &json[..json.len() / 2]).unwrap();
        let text = fs::read_to_string(&newer).unwrap().replacen("\"version\":1", "\"version\":2", 1);
        fs::write(&newer, &text).unwrap();
        node.start().await;
        assert_eq!(fs::read_to_string(&newer).unwrap(), text, "left alone");
        assert!(node.log().contains("version 2") && node.log().contains("cannot be read"), "{}", node.log());
        is_renewed(&node, &node.kubelet.target(&volume("db"))).await;
        // After a final code, the kubelet would never unpublish it.
        let (code, error) = node.refused(&volume("web").attribute("svid-csi/nonsense", "x")).await;
        assert_eq!(code, Code::Unavailable, "{error}");
        for pod in pods {
            let target = node.publish(&volume(pod)).await;
            assert_eq!(node.mounts(&target), 1);
            node.unpublish(&volume(pod)).await;
        }
        assert_eq!(fs::read_dir(node.path("root/records")).unwrap().count(), 0);
    });
}

#[test]
fn sigterm_leaves_every_volume_mounted() {
    test(async || {
        let mut node = Node::passthrough(&[]).await;
        let agent = node.agent();
        let target = node.publish(&volume("web")).await;
        until("the driver has seen the agent", async || target.join("agent.sock").exists()).await;
        node.terminate().await;
        assert!(!node.log().contains("still in progress"), "{}", node.log());
        assert!(!node.path("csi.sock").exists());
        assert_eq!(node.mounts(&target), 1);
        UnixStream::connect(target.join("agent.sock")).unwrap();
        agent.accept().unwrap();
        node.start().await;
        assert_eq!(node.trouble(&volume("web")).await, None);
    });
}

#[test]
fn the_agents_directory_may_be_recreated_while_the_driver_is_away() {
    test(async || {
        let mut node = Node::passthrough(&[]).await;
        let old = node.agent();
        let target = node.publish(&volume("web")).await;
        node.kill();
        drop(old);
        fs::remove_dir_all(node.path("run/agent")).unwrap();
        let agent = node.agent();
        node.start().await;
        UnixStream::connect(target.join("agent.sock")).unwrap();
        agent.accept().unwrap();
        assert_eq!(node.trouble(&volume("web")).await, None);
    });
}

#[test]
fn passthrough_needs_no_data_root() {
    test(async || {
        let mut node = Node::new(&[PASSTHROUGH]);
        node.start().await;
        let _agent = node.agent();
        let target = node.publish(&volume("web")).await;
        node.kill();
        node.start().await;
        node.publish(&volume("web")).await;
        assert_eq!((node.mounts(&target), node.trouble(&volume("web")).await), (1, None));
        node.kill();
        fs::remove_dir_all(node.path(".svid-csi")).unwrap();
        node.start().await;
        node.unpublish(&volume("web")).await;
        assert!(!target.exists(), "known by what is mounted, even without a record");
    });
}

#[test]
fn a_predecessors_dead_mount_is_removed_according_to_the_kubelets_note() {
    test(async || {
        let node = Node::passthrough(&[]).await;
        let target = node.publish(&volume("web")).await;
        node.unpublish(&volume("web")).await;
        fs::create_dir_all(&target).unwrap();
        let gone = node.path("gone");
        fs::create_dir(&gone).unwrap();
        run("mount", &["--bind", gone.to_str().unwrap(), target.to_str().unwrap()]);
        fs::remove_dir(&gone).unwrap();
        let unpublish = async || node.kubelet.unpublish(&node.plugin().await, &volume("web")).await;
        assert_eq!(unpublish().await.unwrap_err().code(), Some(Code::FailedPrecondition));
        let note = format!(r#"{{"driverName":"csi.spiffe.io","volumeHandle":"{}"}}"#, volume("web").id());
        fs::write(target.parent().unwrap().join("vol_data.json"), note).unwrap();
        unpublish().await.unwrap();
        assert!(!target.exists());
    });
}

#[test]
fn a_second_driver_on_the_same_data_root_is_refused() {
    test(async || {
        let node = Node::files(&[]).await;
        let second = node.command().output().unwrap();
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(1));
        assert!(said.contains("another driver is running on"), "{said}");
        node.publish(&volume("web")).await;
    });
}

/// Kills the real process at moments spread over publish, renewal and unpublish, and starts it again each time.
async fn kill_at_any_moment(mut node: Node, after_kill: fn(&Node)) {
    let kept = node.publish(&volume("kept")).await;
    for round in kill_rounds(40) {
        let one = volume(&format!("pod-{}", round % 4));
        let plugin = node.plugin().await;
        let wait = Duration::from_micros(round * 97 % 4000);
        let killed = async |node: &Node| {
            tokio::time::sleep(wait).await;
            node.driver_kill();
        };
        let (_, ()) = tokio::join!(node.kubelet.publish(&plugin, &one), killed(&node));
        node.reap();
        after_kill(&node);
        node.start().await;
        let target = node.publish(&one).await;
        assert_eq!((node.mounts(&target), node.mounts(&kept)), (1, 1), "round {round}");
        serial(&target);
        serial(&kept);
        if round % 3 == 0 {
            let plugin = node.plugin().await;
            let (_, ()) = tokio::join!(node.kubelet.unpublish(&plugin, &one), killed(&node));
            node.reap();
            after_kill(&node);
            node.start().await;
            node.unpublish(&one).await;
            assert_eq!(node.mounts(&target), 0, "round {round}");
        }
    }
    is_renewed(&node, &kept).await;
}

#[test]
fn a_kill_at_any_moment_loses_no_socket() {
    test(async || {
        let mut node = Node::new(&[PASSTHROUGH]);
        node.start().await;
        let _agent = node.agent();
        let kept = node.publish(&volume("kept")).await;
        for round in kill_rounds(40) {
            let one = volume(&format!("pod-{}", round % 4));
            let plugin = node.plugin().await;
            let killed = async {
                tokio::time::sleep(Duration::from_micros(round * 61 % 2500)).await;
                node.driver_kill();
            };
            let (_, ()) = if round % 3 == 2 {
                tokio::join!(node.kubelet.unpublish(&plugin, &one), killed)
            } else {
                let (published, killed) = tokio::join!(node.kubelet.publish(&plugin, &one), killed);
                (published.map(drop), killed)
            };
            node.reap();
            node.start().await;
            let target = node.publish(&one).await;
            assert_eq!((node.mounts(&target), node.mounts(&kept)), (1, 1), "round {round}");
            assert_eq!(node.trouble(&one).await, None, "round {round}");
        }
    });
}

#[test]
fn a_kill_at_any_moment_loses_nothing() {
    test(async || {
        kill_at_any_moment(shared(&[FILES, LOCAL_CA]).await, |_| ()).await;
    });
}

#[test]
fn a_kill_at_any_moment_loses_nothing_even_with_the_data_root() {
    test(async || {
        kill_at_any_moment(Node::files(&[ADMIN]).await, lose_data_root).await;
    });
}

#[test]
fn the_ca_on_disk_is_private_and_reused() {
    test(async || {
        use std::os::unix::fs::PermissionsExt;
        let mut node = Node::files(&[ADMIN, "--local-ca-dir={dir}/ca"]).await;
        let target = node.publish(&volume("web")).await;
        let mode = fs::metadata(node.path("ca/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (before, bundle) = (serial(&target), fs::read(target.join("ca.crt")).unwrap());
        node.kill();
        lose_data_root(&node);
        node.start().await;
        assert_eq!(serial(&target), before, "the same CA: nothing is issued again");
        is_renewed(&node, &target).await;
        assert_eq!(fs::read(target.join("ca.crt")).unwrap(), bundle);
    });
}

#[test]
fn a_data_root_that_becomes_shared_keeps_volumes_writable() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let target = node.publish(&volume("web")).await;
        let inside = inside(&node, &target);
        node.kill();
        lose_data_root(&node);
        share_root(&node);
        for _ in 0..2 {
            node.start().await;
            is_renewed(&node, &target).await;
            assert_eq!(serial(&inside), serial(&target));
            node.kill();
            // From the view of the next container: a copy that does not receive changes made to the driver's.
            let folder = node.path(&format!("root/data/volumes/{}", volume("web").id()));
            run("mount", &["-o", "remount,bind,ro", folder.to_str().unwrap()]);
        }
        node.start().await;
        node.unpublish(&volume("web")).await;
        assert!(!target.exists());
    });
}

#[test]
fn a_full_tmpfs_does_not_prevent_the_driver_from_starting() {
    test(async || {
        let mut node = shared(&[FILES, LOCAL_CA, &["--data-size-limit=1Mi"]]).await;
        let target = node.publish(&volume("web")).await;
        let _ = fs::write(node.path("root/data/filler"), vec![0; 2 << 20]);
        node.kill();
        node.start().await;
        serial(&target);
        node.unpublish(&volume("web")).await;
    });
}

#[test]
fn a_record_that_is_not_a_file_leaves_the_others_unharmed() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let target = node.publish(&volume("web")).await;
        node.kill();
        fs::create_dir_all(node.path("root/records/csi-folder.json/x")).unwrap();
        fs::create_dir_all(node.path("root/records/.folder/x")).unwrap();
        node.start().await;
        is_renewed(&node, &target).await;
    });
}

#[test]
fn new_flags_apply_to_a_published_volume_and_its_renewals() {
    test(async || {
        let mut node = Node::files(&[ADMIN]).await;
        let target = node.publish(&volume("web")).await;
        node.kill();
        node.add_args(&["--file-name-certificate=svid.pem", "--trust-domain=example.com"]);
        node.start().await;
        let filler = node.path("root/data/filler");
        let _ = fs::write(&filler, vec![0; 256 << 20]);
        let (code, _) = node.refused(&volume("web")).await;
        assert_eq!(code, Code::ResourceExhausted, "not published as asked until it is");
        serial(&target);
        let (code, _) = node.refused(&volume("web")).await;
        assert_eq!(code, Code::ResourceExhausted);
        fs::remove_file(filler).unwrap();
        node.publish(&volume("web")).await;
        let names = || {
            let entries = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = entries.filter(|name| !name.starts_with("..")).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["ca.crt", "svid.pem", "tls.key"]);
        let before = fs::read(target.join("svid.pem")).unwrap();
        renew_all(&node).await;
        until("the renewal uses the new names", async || fs::read(target.join("svid.pem")).unwrap() != before).await;
        assert_eq!(names(), ["ca.crt", "svid.pem", "tls.key"]);
        assert!(get(&node, "/status").await.contains("spiffe://example.com/ns/shop/sa/web"));
    });
}

#[test]
fn a_renewal_interrupted_by_kill_9_leaves_a_matching_pair() {
    test(async || {
        let mut node = shared(&[FILES, LOCAL_CA]).await;
        let target = node.publish(&volume("web")).await;
        for round in kill_rounds(30) {
            renew_all(&node).await;
            tokio::time::sleep(Duration::from_micros(round * 83 % 2000)).await;
            node.kill();
            serial(&target);
            node.start().await;
            serial(&target);
        }
        is_renewed(&node, &target).await;
        let entries = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(entries.filter(|name| name.starts_with("..")).count(), 2, "no folder of an earlier moment is left");
    });
}

#[test]
fn a_reboot_of_a_node_with_sockets_ends_in_clean_unpublish_and_working_republish() {
    test(async || {
        let mut node = shared(&[PASSTHROUGH, &["--data-root={dir}/root"]]).await;
        let (web, api) = (volume("web"), volume("api"));
        let (web_target, api_target) = (node.publish(&web).await, node.publish(&api).await);
        node.kill();
        for target in [&web_target, &api_target] {
            run("umount", &[target.to_str().unwrap()]);
        }
        lose_data_root(&node);
        node.start().await;
        node.unpublish(&web).await;
        assert!(!web_target.exists());
        let agent = node.agent();
        node.publish(&api).await;
        until("the pod reaches the agent", async || UnixStream::connect(api_target.join("agent.sock")).is_ok()).await;
        agent.accept().unwrap();
        assert_eq!(node.mounts(&api_target), 1);
    });
}

#[test]
fn a_second_driver_without_a_data_root_is_also_refused() {
    test(async || {
        let mut node = Node::new(&[PASSTHROUGH]);
        node.start().await;
        let second = node.command().output().unwrap();
        assert!(String::from_utf8_lossy(&second.stderr).contains("another driver is running on"));
    });
}

#[test]
fn calls_in_progress_end_before_the_driver_does() {
    test(async || {
        let mut node = Node::files(&[]).await;
        let plugin = node.plugin().await;
        let (kubelet, first) = (Kubelet::new(&node.path("kubelet")).unwrap(), tokio::sync::Notify::new());
        // This client reports Unknown for a connection that ends before anything was sent on it; Go's reports
        // Unavailable.
        let [unavailable, unknown] = [Err(Some(Code::Unavailable)), Err(Some(Code::Unknown))];
        let calls = async {
            let mut codes = Vec::new();
            while codes.last() != Some(&unavailable) {
                let volume = volume(&format!("pod-{}", codes.len()));
                codes.push(kubelet.publish(&plugin, &volume).await.map(drop).map_err(|error| error.code()));
                first.notify_one();
            }
            codes
        };
        let (codes, ()) = tokio::join!(calls, async {
            first.notified().await;
            node.terminate().await;
        });
        assert!(!node.log().contains("still in progress"), "{}", node.log());
        assert!(codes.iter().all(|code| code.is_ok() || [&unavailable, &unknown].contains(&code)), "{codes:?}");
        assert_eq!(codes[0], Ok(()));
        for (number, _) in codes.iter().enumerate().filter(|(_, code)| code.is_ok()) {
            serial(&node.kubelet.target(&volume(&format!("pod-{number}"))));
        }
    });
}

#[test]
fn a_published_volume_that_is_refused_now_can_still_be_unpublished() {
    test(async || {
        let mut node = Node::files(&["--allow-plan=local-ca:workload-api"]).await;
        let web = volume("web").attribute("svid-csi/delivery", "workload-api");
        let target = node.publish(&web).await;
        node.kill();
        node.drop_arg("--allow-plan");
        node.start().await;
        // A kubelet that timed out at the first publish would never unpublish after a final code.
        let (code, message) = node.refused(&web).await;
        assert_eq!(code, Code::Unavailable, "{message}");
        assert!(message.contains("workload-api"), "{message}");
        let other = volume("api").attribute("svid-csi/delivery", "workload-api");
        assert_eq!(node.refused(&other).await.0, Code::InvalidArgument);
        node.unpublish(&web).await;
        assert!(!target.exists());
    });
}
