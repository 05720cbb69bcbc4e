//! `svid-csi doctor --pre`: nodes that are not ready for the driver.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::cluster::{object, put};
use super::{found, mount, open_to_all, output, text};
use crate::cert_manager::cluster::Cluster;
use crate::fixture::{Node, run, test, until};

/// A node whose kubelet has folders that containers see, with an agent, in a cluster; no driver.
struct Ready {
    cluster: Cluster,
    _agent: UnixListener,
}

impl Ready {
    fn new() -> Self {
        let cluster = Cluster::prepared(&[]);
        cluster.server.permissions.everything();
        let node = &cluster.node;
        share(&node.path("kubelet"));
        let agent = node.agent();
        open_to_all(&node.path("run/agent/agent.sock"));
        Self { _agent: agent, cluster }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.cluster.node.path(below)
    }

    /// The ids of all findings, and the whole answer. A later flag wins.
    fn doctor(&self, more: &[&str]) -> (BTreeSet<String>, Value) {
        let flag = |name: &str, path: &str| format!("--{name}={}", self.path(path).display());
        let mut all = vec![flag("kubelet-dir", "kubelet"), flag("workload-api-socket-dir", "run/agent")];
        all.push(flag("kubeconfig", "kubeconfig"));
        all.extend(more.iter().map(|flag| (*flag).to_owned()));
        doctor(&all)
    }

    fn ids(&self, more: &[&str]) -> BTreeSet<String> {
        self.doctor(more).0
    }
}

fn doctor(args: &[impl AsRef<OsStr>]) -> (BTreeSet<String>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    let (code, text) = output(command.args(["doctor", "--pre", "--output=json"]).args(args));
    let answer: Value = serde_json::from_str(&text).unwrap();
    let worst = match answer["worst"].as_str() {
        Some("fault") => 2,
        Some("warning") => 1,
        _ => 0,
    };
    assert_eq!(code, worst, "{answer}");
    for finding in found(&answer) {
        assert!(!super::text(finding, "cause").is_empty() && !super::text(finding, "fix").is_empty(), "{finding}");
    }
    (found(&answer).map(|finding| super::text(finding, "id")).collect(), answer)
}

/// Mounts a folder onto itself, so that mounts in it reach other namespaces.
fn share(folder: &Path) {
    mount(&["--bind".as_ref(), folder.as_os_str(), folder.as_os_str()]);
    mount(&["--make-shared".as_ref(), folder.as_os_str()]);
}

/// Shows another content in place of a file of the kernel.
fn pretend(node: &Node, file: &str, content: &str) {
    let other = node.path(&file.replace('/', "-"));
    fs::write(&other, content).unwrap();
    mount(&["--bind".as_ref(), other.as_os_str(), file.as_ref()]);
}

fn ids<const N: usize>(expected: [&str; N]) -> BTreeSet<String> {
    expected.map(str::to_owned).into()
}

#[test]
fn a_node_that_is_ready_shows_nothing() {
    test(async || {
        let ready = Ready::new();
        let (found, answer) = ready.doctor(&[]);
        assert_eq!(found, ids([]), "{answer}");
        assert_eq!(answer["not_checked"], json!([]), "{answer}");
        let mut short = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
        short.args(["doctor", "--pre", "--category=registration", "--kubelet-dir"]).arg(ready.path("kubelet"));
        let (code, text) = output(&mut short);
        assert!(code == 0 && text.starts_with("this node, before an installation: nothing is wrong\n"), "{text}");
    });
}

#[test]
fn kubelets_that_are_missing_private_deep_or_served_already() {
    test(async || {
        let ready = Ready::new();
        let none = format!("--kubelet-dir={}", ready.path("none").display());
        assert_eq!(ready.ids(&[&none]), ids(["kubelet-directory-missing"]));
        let deep = ready.path(&"k".repeat(60));
        fs::create_dir_all(deep.join("pods")).unwrap();
        let deep = format!("--kubelet-dir={}", deep.display());
        assert_eq!(ready.ids(&[&deep]), ids(["pods-folder-not-shared", "socket-path-too-long"]));

        let node = super::healthy(&[]).await;
        let served = format!("--kubelet-dir={}", node.path("kubelet").display());
        share(&node.path("kubelet"));
        assert_eq!(ready.ids(&[&served, "--driver-name=another.example"]), ids([]));
        let (found, answer) = ready.doctor(&[&served, "--driver-name=demo.svid-csi"]);
        assert_eq!(found, ids(["driver-name-taken"]), "{answer}");
    });
}

/// A process with these words as its command line, which ends with its input.
fn process(program: &Path, words: &[&str]) -> Child {
    Command::new(program).args(words).stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_running_kubelet_says_where_its_folders_are() {
    test(async || {
        let node = Node::new(&[]);
        let program = node.path("run/kubelet");
        fs::write(&program, "#!/bin/sh\nread line\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let root = format!("--root-dir={}", node.path("kubelet").display());
        let mut kubelet = process(&program, &[&root, "--v=2"]);
        let mut last = Value::Null;
        until("the kubelet is found", async || {
            let (found, answer) = doctor(&["--category=registration"]);
            last = answer;
            found.contains("kubelet-directory-other")
        })
        .await;
        drop(kubelet.stdin.take());
        kubelet.wait().unwrap();
        // A process of a pod may have that name too.
        let mut of_pod = Command::new("unshare");
        of_pod.args(["--mount", "--propagation", "private"]).arg(&program).arg(&root).stdin(Stdio::piped());
        let mut of_pod = of_pod.spawn().unwrap();
        let path = format!("/proc/{}/comm", of_pod.id());
        until("it runs", async || fs::read_to_string(&path).is_ok_and(|name| name == "kubelet\n")).await;
        let (_, answer) = doctor(&["--category=registration"]);
        assert!(!answer.to_string().contains(&node.path("kubelet").display().to_string()), "{answer}");
        drop(of_pod.stdin.take());
        of_pod.wait().unwrap();
        let finding = super::found(&last).find(|finding| finding["id"] == "kubelet-directory-other").unwrap();
        assert!(text(finding, "fix").contains("--set kubeletDir=/"), "{finding}");
    });
}

#[test]
fn the_host_of_a_container_is_seen_through_one_of_its_processes() {
    test(async || {
        let ready = Ready::new();
        let elsewhere = ready.path("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let script = "mount -t tmpfs none \"$0\" && mkdir \"$0/pods\" && mount --make-shared \"$0\" && echo ready > \"$1\"; read line";
        let done = ready.path("done");
        let mut host = Command::new("unshare");
        host.args(["--mount", "--propagation", "private", "sh", "-c", script]).args([&elsewhere, &done]);
        let mut host = host.stdin(Stdio::piped()).spawn().unwrap();
        until("the host is ready", async || fs::read_to_string(&done).is_ok_and(|text| text == "ready\n")).await;
        let kubelet = format!("--kubelet-dir={}", elsewhere.display());
        assert_eq!(ready.ids(&[&kubelet]), ids(["kubelet-directory-missing"]));
        let (found, answer) = ready.doctor(&[&kubelet, &format!("--host-pid={}", host.id())]);
        assert_eq!(found, ids([]), "{answer}");
        drop(host.stdin.take());
        host.wait().unwrap();
    });
}

#[test]
fn agents_behind_links_and_sockets_that_are_closed() {
    test(async || {
        let ready = Ready::new();
        let agent = |path: &str| format!("--workload-api-socket-dir={}", ready.path(path).display());
        assert_eq!(ready.ids(&[&agent("run/none")]), ids(["agent-directory-missing"]));
        fs::create_dir(ready.path("run/empty")).unwrap();
        assert_eq!(ready.ids(&[&agent("run/empty")]), ids(["agent-directory-empty"]));
        symlink("agent", ready.path("run/link")).unwrap();
        let (found, answer) = ready.doctor(&[&agent("run/link")]);
        assert_eq!(found, ids(["agent-directory-is-link"]), "{answer}");

        let folder = ready.path("run/agent");
        symlink("agent.sock", folder.join("alias.sock")).unwrap();
        assert_eq!(ready.ids(&[]), ids([]), "a link that leads somewhere");
        symlink("api.sock", folder.join("old.sock")).unwrap();
        symlink(folder.join("gone.sock"), folder.join("absolute.sock")).unwrap();
        symlink("/run/of/the/agent/alone.sock", folder.join("outside.sock")).unwrap();
        let (found, answer) = ready.doctor(&[]);
        assert_eq!(found, ids(["agent-link-dangling"]), "{answer}");
        let causes: Vec<_> = super::found(&answer).map(|finding| text(finding, "cause")).collect();
        assert!(
            causes.len() == 2 && causes[0].contains("absolute.sock") && causes[1].contains("old.sock"),
            "{causes:?}"
        );
        for link in ["old.sock", "absolute.sock"] {
            fs::remove_file(folder.join(link)).unwrap();
        }
        fs::set_permissions(folder.join("agent.sock"), fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(ready.ids(&[]), ids(["agent-socket-closed"]));
    });
}

#[test]
fn kernels_that_lack_something() {
    test(async || {
        let ready = Ready::new();
        let node = &ready.cluster.node;
        pretend(node, "/proc/sys/kernel/osrelease", "5.15.0-91-generic\n");
        pretend(node, "/proc/filesystems", "nodev\tproc\n\text4\n");
        let (found, answer) = ready.doctor(&["--category=kernel"]);
        assert_eq!(found, ids(["kernel-lacks-feature"]), "{answer}");
        assert_eq!(text(super::found(&answer).next().unwrap(), "about"), "tmpfs");
        run("umount", &["/proc/filesystems"]);
        pretend(node, "/proc/swaps", "Filename Type Size Used Priority\n/swapfile file 1024 0 -2\n");
        assert_eq!(ready.ids(&[]), ids(["swap-not-avoidable"]));
        run("umount", &["/proc/swaps"]);
        pretend(node, "/proc/sys/fs/inotify/max_user_instances", "64\n");
        assert_eq!(ready.ids(&[]), ids(["inotify-limits-low"]));
        pretend(node, "/proc/sys/fs/inotify/max_user_watches", "many\n");
        let (found, answer) = ready.doctor(&[]);
        assert_eq!(found, ids([]), "{answer}");
        assert!(answer["not_checked"].to_string().contains("max_user_watches is not a number"), "{answer}");
    });
}

#[test]
fn clusters_that_are_old_taken_or_closed() {
    test(async || {
        let ready = Ready::new();
        let server = &ready.cluster.server;
        server.pretend_minor_version(29);
        assert_eq!(ready.ids(&[]), ids(["kubernetes-too-old", "policies-not-available"]));
        server.pretend_minor_version(35);
        assert_eq!(ready.ids(&[]), ids(["policies-not-available"]));
        server.pretend_minor_version(37);
        let mut taken = object(true);
        taken["metadata"]["annotations"] =
            json!({"meta.helm.sh/release-name": "spire\u{1b}[2J", "meta.helm.sh/release-namespace": "spire-system"});
        put(&ready.cluster, taken);
        let name = "--driver-name=spiffe.csi.cert-manager.io";
        let (found, answer) = ready.doctor(&[name]);
        assert_eq!(found, ids(["csidriver-exists"]), "{answer}");
        let cause = text(super::found(&answer).next().unwrap(), "cause");
        assert!(cause.contains("the Helm release spire") && cause.contains("spire-system"), "{cause}");
        assert_eq!(ready.ids(&["--driver-name=csi.spiffe.io"]), ids([]));

        server.permissions.only(|access| access.action() != "create csidrivers" && access.action() != "get csidrivers");
        let (found, answer) = ready.doctor(&[name]);
        assert_eq!(found, ids(["may-not-install"]), "{answer}");
        assert!(answer["not_checked"].to_string().contains("403"), "{answer}");
        server.stop();
        let (found, answer) = ready.doctor(&[name]);
        assert_eq!(found, ids([]), "{answer}");
        assert!(answer["not_checked"].to_string().contains("version of the API server"), "{answer}");
    });
}
