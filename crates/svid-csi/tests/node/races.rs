//! Another process swaps what the kubelet has prepared for links, while the driver works on it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{UnmountFlags, unmount};
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_proto::csi_v1::NodeUnpublishVolumeRequest;
use tokio::time::timeout;
use tonic::Status;

use crate::fixture::{FILES, Node, PASSTHROUGH, test, volume};

/// A busy machine needs a part of it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Something below the kubelet's folder, and the link that takes its place.
struct Swap {
    path: PathBuf,
    link: PathBuf,
    /// Held while they are exchanged.
    gate: Mutex<()>,
}

impl Swap {
    fn new(path: PathBuf, link: PathBuf, to: &Path) -> Self {
        symlink(to, &link).unwrap();
        Self { path, link, gate: Mutex::default() }
    }

    fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if the path does not exist, or if either is mounted.
    fn exchange(&self) -> bool {
        renameat_with(CWD, &self.path, CWD, &self.link, RenameFlags::EXCHANGE).is_ok()
    }

    fn is_swapped(&self) -> bool {
        !self.link.is_symlink()
    }

    /// Puts the link there for a moment. What the driver has mounted on the other meanwhile keeps it away from its path.
    fn swap(&self) {
        let _gate = self.gate();
        if !self.path.is_symlink() && self.exchange() {
            for _ in 0..50 {
                thread::yield_now();
            }
            self.exchange();
        }
    }

    fn restore(&self) {
        let _gate = self.gate();
        while self.is_swapped() && !self.exchange() {
            unmount(&self.link, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).unwrap();
        }
    }
}

/// All files and folders below a path with their content, without following links.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(content(&entry.path()));
        }
        let bytes = if kind.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        found.insert(entry.path(), bytes);
    }
    found
}

async fn publish(node: &Node, volume: &InlineVolume, target: &Path) -> Result<(), Status> {
    let request = volume.publish_request(target.to_str().unwrap(), false);
    let mut driver = node.plugin().await.node().await.unwrap();
    let answer = timeout(ANSWERS_WITHIN, driver.node_publish_volume(request)).await;
    answer.expect("the driver answers").map(drop)
}

async fn unpublish(node: &Node, volume: &InlineVolume, target: &Path) -> Result<(), Status> {
    let target_path = target.to_str().unwrap().to_owned();
    let request = NodeUnpublishVolumeRequest { volume_id: volume.id().into(), target_path };
    let mut driver = node.plugin().await.node().await.unwrap();
    let answer = timeout(ANSWERS_WITHIN, driver.node_unpublish_volume(request)).await;
    answer.expect("the driver answers").map(drop)
}

/// Where the links lead: each has what the driver looks for, so that following one would do harm.
fn elsewhere(node: &Node) -> PathBuf {
    let elsewhere = node.path("elsewhere");
    fs::create_dir_all(elsewhere.join("spiffe/mount")).unwrap();
    fs::create_dir_all(elsewhere.join("mount")).unwrap();
    for file in ["vol_data.json", "spiffe/vol_data.json", "mount/tls.key", "tls.key"] {
        fs::write(elsewhere.join(file), "precious").unwrap();
    }
    elsewhere
}

#[derive(Debug, Default)]
struct Outcomes {
    succeeded: usize,
    refused: BTreeMap<String, usize>,
}

impl Outcomes {
    fn count(&mut self, outcome: Result<(), Status>) {
        match outcome {
            Ok(()) => self.succeeded += 1,
            Err(status) => *self.refused.entry(format!("{:?}", status.code())).or_default() += 1,
        }
    }
}

/// Swaps all of them again and again until it is dropped.
struct Swapper {
    swaps: Arc<[Swap]>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn start(swaps: impl Into<Arc<[Swap]>>) -> Self {
        let (swaps, ended) = (swaps.into(), Arc::new(AtomicBool::new(false)));
        let (all, until) = (swaps.clone(), ended.clone());
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                all.iter().for_each(Swap::swap);
            }
        });
        Self { swaps, ended, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.swaps.iter().for_each(Swap::restore);
    }
}

/// Publishes and unpublishes a volume at least that many times, and until both outcomes were seen, while its target, the folders above it and the kubelet's file are
/// swapped for links.
#[allow(clippy::print_stdout, reason = "a measurement")]
async fn race(node: &Node, turns: usize) {
    let (web, neighbour) = (volume("web"), volume("neighbour"));
    let beside = node.publish(&neighbour).await;
    let target = node.kubelet.publish(&node.plugin().await, &web).await.unwrap();
    let elsewhere = elsewhere(node);
    let harmless = || (content(&elsewhere), node.mounts(&elsewhere), node.mounts(beside.parent().unwrap()));
    let before = harmless();
    let links = node.path("links");
    fs::create_dir(&links).unwrap();
    let (folder, csi) = (target.parent().unwrap().to_owned(), target.ancestors().nth(2).unwrap().to_owned());
    let swapper = Swapper::start([
        Swap::new(target.clone(), links.join("1"), &beside),
        Swap::new(target.clone(), links.join("2"), &elsewhere.join("mount")),
        Swap::new(folder.clone(), links.join("3"), beside.parent().unwrap()),
        Swap::new(folder.clone(), links.join("4"), &elsewhere),
        Swap::new(csi, links.join("5"), &elsewhere),
        Swap::new(folder.join("vol_data.json"), links.join("6"), &elsewhere.join("vol_data.json")),
    ]);
    let mut outcomes = Outcomes::default();
    let mut turn = 0;
    while turn < turns || outcomes.succeeded == 0 || outcomes.refused.is_empty() {
        turn += 1;
        outcomes.count(publish(node, &web, &target).await);
        outcomes.count(unpublish(node, &web, &target).await);
        swapper.swaps.iter().for_each(Swap::restore);
        assert_eq!(harmless(), before, "turn {turn}: {outcomes:?}");
    }
    println!("{turn} turns: {outcomes:?}");
    drop(swapper);
    assert_eq!(node.trouble(&neighbour).await, None);

    // What the driver has refused meanwhile has left nothing that it cannot remove later.
    fs::create_dir_all(&folder).unwrap();
    node.publish(&web).await;
    assert_eq!((node.trouble(&web).await, node.mounts(&target)), (None, 1));
    node.unpublish(&web).await;
    node.unpublish(&neighbour).await;
    assert_eq!(fs::read_dir(node.path("root/records")).unwrap().count(), 0);
    assert_eq!(harmless().0, before.0);
}

async fn races(turns: usize) {
    for delivery in [FILES, PASSTHROUGH] {
        let mut node = Node::new(&[delivery, &["--data-root={dir}/root"]]);
        if delivery == FILES {
            node.add_args(&["--trust-domain=example.org"]);
        }
        let _agent = node.agent();
        node.start().await;
        race(&node, turns).await;
    }
}

#[test]
fn links_that_appear_during_a_call_are_not_followed() {
    test(async || races(40).await);
}

#[test]
#[ignore = "takes minutes: just leaks"]
fn ten_thousand_links_that_appear_during_calls_are_not_followed() {
    test(async || races(5_000).await);
}
