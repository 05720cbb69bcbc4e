//! Nothing is left of volumes that have come and gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::measure::settled_memory;
use tokio::time::timeout;

use crate::endpoints::{metric, renew_all, status};
use crate::fixture::{Node, test, until, volume};
use crate::workload_api::client::Svids;
use crate::workload_api::{ROOT, SOCKETS};

/// What a driver has of its volumes, apart from its memory.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    descriptors: BTreeSet<String>,
    mounts: usize,
    files: BTreeSet<PathBuf>,
    volumes: usize,
}

impl Traces {
    async fn of(node: &Node) -> Self {
        let mut files = BTreeSet::new();
        list(&node.path("root"), &mut files);
        Self {
            descriptors: descriptors(node),
            mounts: node.mounts(node.dir.path()),
            files,
            volumes: status(node).await["volumes"].as_object().unwrap().len(),
        }
    }
}

fn list(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), found);
        }
        found.insert(entry.path());
    }
}

/// What each descriptor is for, without the connections of this test, which end a moment later.
fn descriptors(node: &Node) -> BTreeSet<String> {
    let folder = format!("/proc/{}/fd", node.pid());
    let open = fs::read_dir(folder).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let target = fs::read_link(entry.path()).ok()?.display().to_string();
        Some(format!("{} -> {target}", entry.file_name().display()))
    });
    open.collect()
}

fn numbered(number: usize) -> InlineVolume {
    let volume = volume(&format!("pod-{number}"));
    if number.is_multiple_of(2) { volume.attribute("svid-csi/delivery", "files") } else { volume }
}

/// A volume comes and goes. Every tenth publish is cancelled by its caller, at another moment each time.
async fn turn(node: &Node, number: usize) {
    let volume = numbered(number);
    if number.is_multiple_of(10) {
        let moment = Duration::from_micros(u64::try_from(number * 37 % 5_000).unwrap());
        let plugin = node.plugin().await;
        // An error of the driver would be one of the next call, too.
        let _ = timeout(moment, node.kubelet.publish(&plugin, &volume)).await;
    } else {
        let target = node.publish(&volume).await;
        if number % 10 == 3 {
            Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
        }
        if number % 10 == 5 {
            renew_all(node).await;
        }
    }
    node.unpublish(&volume).await;
}

#[allow(clippy::print_stdout, reason = "a measurement")]
async fn nothing_is_left(turns: usize) {
    let mut node = Node::new(&[SOCKETS, ROOT, &["--metrics-address=127.0.0.1:0", "--allow-plan=local-ca:files"]]);
    node.start().await;
    let stays = volume("stays");
    node.publish(&stays).await;
    for number in 0..20 {
        turn(&node, number).await;
    }
    until("the first are gone", async || metric(&node, "workload_api_connections").await == Some(0.0)).await;
    let pid = node.pid();
    let memory = async || tokio::task::spawn_blocking(move || settled_memory(pid).unwrap().rss).await.unwrap();
    let (before, began_with) = (Traces::of(&node).await, memory().await);
    for number in 20..20 + turns {
        turn(&node, number).await;
    }
    until("everything is as before", async || {
        let now = Traces::of(&node).await;
        let same = now.descriptors.len() == before.descriptors.len() && now.volumes == before.volumes;
        same && (now.mounts, &now.files) == (before.mounts, &before.files)
    })
    .await;
    println!("{turns} volumes: {began_with:.1} MB before, {:.1} MB afterwards", memory().await);
    assert_eq!(node.trouble(&stays).await, None);
}

#[test]
fn nothing_is_left_of_volumes_that_come_and_go() {
    test(async || nothing_is_left(200).await);
}

#[test]
#[ignore = "takes minutes: just leaks"]
fn nothing_is_left_of_ten_thousand_volumes() {
    test(async || nothing_is_left(10_000).await);
}
