//! Pods that make their mount of a volume writable and change its content.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, Mode, OFlags, StatVfsMountFlags, ioctl_getflags, ioctl_setflags};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tonic::Code;

use crate::endpoints::{metric, renew_all};
use crate::fixture::{Node, is_root_outside, run, serial, test, until, volume};
use crate::workload_api::client::Svids;

const METRICS: &[&str] = &["--metrics-address=127.0.0.1:0", "--admin-socket={dir}/admin.sock"];

/// The volume from the view of its pod after the container runtime, or the pod itself, has made the mount writable.
pub(crate) fn writable_in_pod(node: &Node, target: &Path) -> PathBuf {
    let in_pod = node.path("in-pod");
    fs::create_dir_all(&in_pod).unwrap();
    run("mount", &["--bind", target.to_str().unwrap(), in_pod.to_str().unwrap()]);
    run("mount", &["-o", "remount,bind,rw", in_pod.to_str().unwrap()]);
    in_pod
}

/// Acts like root in a container, even one with CAP_SYS_ADMIN.
fn in_container<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let without_immutable = || {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::LINUX_IMMUTABLE);
        sets.permitted.remove(CapabilitySet::LINUX_IMMUTABLE);
        sets.inheritable = CapabilitySet::empty();
        set_capabilities(None, sets).unwrap();
        act()
    };
    std::thread::scope(|scope| scope.spawn(without_immutable).join().unwrap())
}

/// Removes all seals of a volume, like a kill of the driver before it has sealed again.
pub(crate) fn unseal(path: &Path) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(opened) = rustix::fs::open(path, flags, Mode::empty()) else { return };
    let Ok(flags) = ioctl_getflags(&opened) else { return };
    if flags.contains(IFlags::IMMUTABLE) {
        ioctl_setflags(&opened, flags - IFlags::IMMUTABLE).unwrap();
    }
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| unseal(&entry.unwrap().path()));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Everything that root could do to a folder, in order; returns what succeeded.
fn attacks(folder: &Path) -> Vec<String> {
    let mut succeeded = Vec::new();
    let mut tried = |what: String, outcome: io::Result<()>| {
        if outcome.is_ok() {
            succeeded.push(what);
        }
    };
    tried("write a new file".into(), fs::write(folder.join("new"), "x"));
    tried("make a folder".into(), fs::create_dir(folder.join("folder")));
    tried("link".into(), symlink("/etc", folder.join("link")));
    tried("chmod the folder".into(), fs::set_permissions(folder, fs::Permissions::from_mode(0o777)));
    tried("chown the folder".into(), chown(folder, Some(1000), None));
    for name in names(folder) {
        let path = folder.join(&name);
        tried(format!("hard link {name}"), fs::hard_link(&path, folder.join("second")));
        tried(format!("rename {name}"), fs::rename(&path, folder.join("renamed")));
        tried(format!("remove {name}"), fs::remove_file(&path));
        tried(format!("add to {name}"), fs::write(path.join("new"), "x"));
        if path.is_file() {
            tried(format!("write into {name}"), fs::OpenOptions::new().append(true).open(&path).map(drop));
            tried(format!("chmod {name}"), fs::set_permissions(&path, fs::Permissions::from_mode(0o666)));
            tried(format!("chown {name}"), chown(&path, Some(1000), None));
            tried(format!("remove the file of {name}"), fs::remove_file(folder.join("..data").join(&name)));
        }
    }
    succeeded
}

#[test]
fn no_container_changes_its_volume() {
    test(async || {
        for (delivery, read_only) in
            [("files", true), ("files", false), ("workload-api", true), ("workload-api", false)]
        {
            let node = Node::files(&[&format!("--delivery={delivery}"), "--allow-missing-read-only"]).await;
            let mut web = volume("web");
            web.read_only = read_only;
            if !is_root_outside() {
                if !read_only {
                    let (code, message) = node.refused(&web).await;
                    assert_eq!(code, Code::FailedPrecondition, "{message}");
                    assert!(message.contains("set readOnly: true"), "{message}");
                }
                continue;
            }
            let target = node.publish(&web).await;
            let in_pod = writable_in_pod(&node, &target);
            let before = names(&in_pod);
            assert_eq!(in_container(|| attacks(&in_pod)), Vec::<String>::new(), "{delivery}, readOnly: {read_only}");
            assert_eq!((names(&target), node.trouble(&web).await), (before, None));
            node.publish(&web).await;
            node.unpublish(&web).await;
            assert_eq!((names(&in_pod), target.exists()), (Vec::new(), false), "nothing is left of it");
        }
    });
}

#[test]
fn a_changed_volume_is_detected_and_restored() {
    test(async || {
        let mut node = Node::files(METRICS).await;
        let (web, api) = (volume("web"), volume("api"));
        let (target, other) = (node.publish(&web).await, node.publish(&api).await);
        let in_pod = writable_in_pod(&node, &target);
        let secret = fs::read(other.join("tls.key")).unwrap();
        for deliver in ["renewal", "republish", "start"] {
            let first = serial(&target);
            unseal(&in_pod);
            fs::remove_file(in_pod.join("..data")).unwrap();
            symlink(format!("../{}/..data", api.id()), in_pod.join("..data")).unwrap();
            fs::write(in_pod.join("planted"), "x").unwrap();
            let trouble = node.trouble(&web).await.expect("abnormal");
            assert!(
                trouble.contains("the volume's files were changed: ..data is not a link to the delivered files"),
                "{trouble}"
            );
            match deliver {
                "renewal" => drop(renew_all(&node).await),
                "republish" => drop(node.publish(&web).await),
                _ => {
                    node.kill();
                    node.start().await;
                }
            }
            until("it is restored", async || {
                node.trouble(&web).await.is_none() && fs::read(target.join("tls.key")).is_ok()
            })
            .await;
            assert_ne!(serial(&target), first, "{deliver}");
            let key = fs::read(target.join("tls.key")).unwrap();
            assert!(key != secret && key != fs::read(other.join("tls.key")).unwrap());
            assert_eq!(names(&target).len(), 5, "{:?}", names(&target));
            assert!(metric(&node, "changed_volumes_seen_total").await > Some(0.0), "{deliver}");
        }
        assert!(
            node.log().contains("the volume was changed by its pod or by another process on the node"),
            "{}",
            node.log()
        );
    });
}

#[test]
fn files_that_a_pod_puts_beside_its_socket_are_detected_and_removed() {
    test(async || {
        let node = Node::files(&["--delivery=workload-api", METRICS[0]]).await;
        let (web, outside) = (volume("web"), node.path("outside"));
        fs::write(&outside, "precious").unwrap();
        let target = node.publish(&web).await;
        let in_pod = writable_in_pod(&node, &target);
        let before = names(&target);
        unseal(&in_pod);
        fs::create_dir_all(in_pod.join("a/b/c")).unwrap();
        for name in ["..next", "..link"] {
            symlink(&outside, in_pod.join(name)).unwrap();
        }
        fs::remove_file(in_pod.join("agent.sock")).unwrap();
        symlink(&outside, in_pod.join("agent.sock")).unwrap();
        let trouble = node.trouble(&web).await.expect("abnormal");
        assert!(trouble.contains("socket was removed or replaced, or something was added beside it"), "{trouble}");
        node.publish(&web).await;
        assert_eq!((names(&target), node.trouble(&web).await), (before, None));
        Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
        assert_eq!(metric(&node, "changed_volumes_seen_total").await, Some(1.0));
        assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o644);
        fs::set_permissions(in_pod.join("agent.sock"), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(node.trouble(&web).await.is_some(), "others can no longer connect");
        node.publish(&web).await;
        assert_eq!(node.trouble(&web).await, None);
    });
}

#[test]
fn a_volume_filled_by_its_pod_is_removed_completely() {
    test(async || {
        let node = Node::files(&[]).await;
        let target = node.publish(&volume("web")).await;
        let in_pod = writable_in_pod(&node, &target);
        unseal(&in_pod);
        let mut deep = in_pod.clone();
        for _ in 0..600 {
            deep.push("d");
            fs::create_dir(&deep).unwrap();
            symlink(node.path("kubelet"), deep.join("way-out")).unwrap();
        }
        (0..2_000).for_each(|name| fs::write(in_pod.join(name.to_string()), "x").unwrap());
        node.unpublish(&volume("web")).await;
        assert_eq!(fs::read_dir(node.path("root/data/volumes")).unwrap().count(), 0);
        assert!(node.path("kubelet/pods").exists());
    });
}

/// A node that passes an agent's sockets through, with a plain mount of the agent's directory or of the stable one.
async fn passing_through(plain: bool) -> (Node, std::os::unix::net::UnixListener) {
    let plan = ["--source=socket", "--delivery=socket-dir", "--workload-api-socket-dir={dir}/run/agent"];
    let mut node = Node::new(&[&plan, &["--driver-name=demo.svid-csi", "--data-root={dir}/root", METRICS[1]]]);
    if plain {
        let agent = node.path("run/agent");
        fs::create_dir_all(&agent).unwrap();
        run("mount", &["-t", "tmpfs", "agent", agent.to_str().unwrap()]);
    }
    let agent = node.agent();
    fs::write(node.path("run/agent/note"), "the agent's").unwrap();
    node.start().await;
    (node, agent)
}

/// A container in a user namespace cannot make a mount writable that is read-only on the host.
#[test]
fn the_directory_that_pods_share_is_mounted_read_only() {
    test(async || {
        for plain in [false, true] {
            let (node, _agent) = passing_through(plain).await;
            let target = node.publish(&volume("web")).await;
            let flags = rustix::fs::statvfs(&target).unwrap().f_flag;
            assert!(flags.contains(StatVfsMountFlags::RDONLY), "plain: {plain}, {flags:?}");
            UnixStream::connect(target.join("agent.sock")).expect("the agent's");
            fs::write(node.path("run/agent/later"), "the agent's directory itself stays writable").unwrap();
            node.unpublish(&volume("web")).await;
        }
    });
}

async fn becomes(node: &mut Node, source: &str, delivery: &str) {
    node.kill();
    node.add_args(&[&format!("--source={source}"), &format!("--delivery={delivery}")]);
    if source == "local-ca" {
        node.add_args(&["--trust-domain=example.org"]);
    } else {
        node.drop_arg("--trust-domain");
    }
    node.start().await;
}

#[test]
fn a_former_passthrough_volume_leaves_the_agents_directory_alone() {
    test(async || {
        for (plain, delivery) in [(false, "files"), (true, "files"), (false, "workload-api"), (true, "workload-api")] {
            let (mut node, _agent) = passing_through(plain).await;
            let (web, api) = (volume("web"), volume("api"));
            let (target, other) = (node.publish(&web).await, node.publish(&api).await);
            let folders = [node.path("run/agent"), node.path("run/.agent.svid-csi")];
            let in_folders = || folders.iter().filter(|folder| folder.exists()).map(|folder| names(folder));
            let before: Vec<_> = in_folders().collect();
            becomes(&mut node, "local-ca", delivery).await;
            node.publish(&web).await;
            let what = format!("plain: {plain}, {delivery}");
            assert_eq!(in_folders().collect::<Vec<_>>(), before, "{what}");
            UnixStream::connect(node.path("run/agent/agent.sock")).expect("the agent's");
            if delivery == "files" {
                serial(&target);
            } else {
                Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
            }
            assert_eq!((node.trouble(&web).await, node.mounts(&target)), (None, 1), "{what}");
            node.kill();
            node.start().await;
            assert_eq!((node.trouble(&web).await, node.mounts(&target)), (None, 1), "{what}, after a restart");
            assert_eq!(names(&other), before[usize::from(!plain)], "{what}: not asked for again yet");
            node.unpublish(&web).await;
            node.unpublish(&api).await;
            assert_eq!(in_folders().collect::<Vec<_>>(), before, "{what}, after the end");
            UnixStream::connect(node.path("run/agent/agent.sock")).expect("the agent's");
        }
    });
}

#[test]
fn a_volume_that_becomes_a_passthrough_leaves_nothing_behind() {
    test(async || {
        for delivery in ["files", "workload-api"] {
            let (mut node, _agent) = passing_through(false).await;
            becomes(&mut node, "local-ca", delivery).await;
            let web = volume("web");
            let target = node.publish(&web).await;
            becomes(&mut node, "socket", "socket-dir").await;
            node.add_args(&["--allow-plan=local-ca:files", "--trust-domain=example.org"]);
            node.kill();
            node.start().await;
            node.publish(&web).await;
            UnixStream::connect(target.join("agent.sock")).expect("the agent's");
            assert_eq!((node.trouble(&web).await, node.mounts(&target)), (None, 1), "{delivery}");
            for folder in ["volumes", "kept"] {
                assert_eq!(names(&node.path("root/data").join(folder)), Vec::<String>::new(), "{delivery}: {folder}");
            }
            node.kill();
            node.start().await;
            UnixStream::connect(target.join("agent.sock")).expect("the agent's, after a restart");
            node.unpublish(&web).await;
        }
    });
}

#[test]
fn a_mount_whose_root_a_pod_renames_to_other_bytes_does_not_stop_the_driver() {
    test(async || {
        let mut node = Node::files(METRICS).await;
        let target = node.publish(&volume("web")).await;
        // What the kubelet does with a subPath, and then a pod with the whole volume.
        let (of_pod, sub_path) = (node.path("of-pod"), node.path("sub-path"));
        fs::create_dir_all(of_pod.join("data")).unwrap();
        fs::create_dir(&sub_path).unwrap();
        run("mount", &["--bind", of_pod.join("data").to_str().unwrap(), sub_path.to_str().unwrap()]);
        fs::rename(of_pod.join("data"), of_pod.join(OsStr::from_bytes(b"\xff"))).unwrap();
        node.kill();
        node.start().await;
        renew_all(&node).await;
        run("umount", &[sub_path.to_str().unwrap()]);
        serial(&target);
        node.unpublish(&volume("web")).await;
    });
}
