//! `svid-csi doctor`: each test breaks something real, and sees that finding.

mod admin_socket;
mod before;
mod cluster;
mod colours;
mod data;
mod driver;
mod handshake;
mod identity;
mod identity_command;
mod leads;
mod mounts;
mod page;
mod registration;
mod report;
mod source;
mod status;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use svid_csi::host::seal;

use crate::fixture::{FILES, Node, run, unseal_below, until, volume};

/// What a private mount namespace lacks: nothing that is mounted in it reaches the host.
const OF_NAMESPACE: [&str; 2] = ["data-ends-with-container", "pods-folder-not-shared"];

/// A driver that registers itself, on a node whose kubelet has accepted it, with two published pods.
pub(crate) async fn healthy(more: &[&str]) -> Node {
    healthy_with(more, |_| ()).await
}

/// The same, of a node that is changed before the driver starts.
async fn healthy_with(more: &[&str], change: impl FnOnce(&mut Node)) -> Node {
    let mut node = Node::new(&[
        FILES,
        &["--data-root={dir}/root", "--trust-domain=example.org", "--kubelet-dir={dir}/kubelet"],
        &["--allow-plan=local-ca:workload-api", "--endpoint={dir}/plugin/csi.sock"],
        &["--kubelet-registration-dir={dir}/kubelet/plugins_registry"],
        &["--kubelet-registration-path={dir}/plugin/csi.sock"],
        more,
    ]);
    change(&mut node);
    node.spawn();
    let within = std::time::Duration::from_secs(120);
    let plugin = node.kubelet.register("demo.svid-csi", within).await.unwrap();
    for pod in ["web", "api"] {
        node.kubelet.publish(&plugin, &volume(pod)).await.unwrap();
    }
    let sockets = volume("socket").attribute("svid-csi/delivery", "workload-api");
    node.kubelet.publish(&plugin, &sockets).await.unwrap();
    until("the driver knows that it is registered", async || !ids(&node).contains("not-registered")).await;
    node
}

fn command(node: &Node, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    let given = node.path("admin.sock");
    let socket = if given.exists() { given } else { node.path("root/admin.sock") };
    command.args(["doctor", "--admin-socket"]).arg(socket).args(args);
    command
}

fn output(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(stderr, "", "{stdout}");
    (status.code().unwrap(), stdout)
}

fn doctor(node: &Node, args: &[&str]) -> (i32, Value) {
    let (code, text) = output(command(node, args).args(["--output", "json"]));
    (code, serde_json::from_str(&text).unwrap())
}

/// The ids of all findings.
fn ids(node: &Node) -> BTreeSet<String> {
    ids_with(node, &[])
}

fn ids_with(node: &Node, args: &[&str]) -> BTreeSet<String> {
    let (code, answer) = doctor(node, args);
    let ids: BTreeSet<_> = found(&answer).map(|finding| text(finding, "id")).collect();
    let worst = match answer["worst"].as_str() {
        Some("fault") => 2,
        Some("warning") => 1,
        _ => 0,
    };
    assert_eq!(code, worst, "{answer}");
    ids.into_iter().filter(|id| !OF_NAMESPACE.contains(&id.as_str())).collect()
}

fn found(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["findings"].as_array().unwrap().iter()
}

fn text(finding: &Value, field: &str) -> String {
    finding[field].as_str().unwrap().to_owned()
}

/// Exactly these findings, each with a cause and a fix, once the driver has noticed.
async fn finds(node: &Node, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().map(|id| (*id).to_owned()).collect();
    let mut last = BTreeSet::new();
    let found_them = async {
        until("the findings", async || {
            last = ids(node);
            last == expected
        })
        .await;
    };
    tokio::select! {
        () = found_them => {}
        () = tokio::time::sleep(std::time::Duration::from_secs(100)) => {
            panic!("{}", doctor(node, &[]).1);
        }
    }
    let (_, answer) = doctor(node, &[]);
    for finding in found(&answer) {
        assert!(!text(finding, "cause").is_empty() && !text(finding, "fix").is_empty(), "{finding}");
    }
}

/// The folder with the current files of a pod's volume, open to changes.
fn delivered(node: &Node, pod: &str) -> PathBuf {
    unseal_below(&node.path("root/data/volumes"));
    let id = volume(pod).id();
    let folder = fs::canonicalize(node.path(&format!("root/data/volumes/{id}/..data"))).unwrap();
    for file in fs::read_dir(&folder).unwrap() {
        let _ = fs::File::open(file.unwrap().path()).and_then(seal::unseal);
    }
    folder
}

/// A socket to which every pod may connect, as agents create theirs.
fn listen(socket: &std::path::Path) -> UnixListener {
    let listener = UnixListener::bind(socket).unwrap();
    open_to_all(socket);
    listener
}

fn open_to_all(socket: &std::path::Path) {
    fs::set_permissions(socket, fs::Permissions::from_mode(0o777)).unwrap();
}

fn mount(args: &[&OsStr]) {
    assert!(Command::new("mount").args(args).status().unwrap().success(), "{args:?}");
}

/// Mounts an empty file system over a folder, which can only be read.
fn hide(folder: &std::path::Path) {
    mount(&["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), "ro".as_ref(), "none".as_ref(), folder.as_os_str()]);
}

fn unmount(path: &std::path::Path) {
    run("umount", &["-l", path.to_str().unwrap()]);
}
