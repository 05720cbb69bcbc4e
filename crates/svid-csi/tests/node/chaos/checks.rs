//! Checks from outside: mounts, leftovers, the status page, the audit log, and what the process uses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use svid_csi_core::state::{Phase, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::beliefs::{Belief, Tampering};
use super::calls::{Verdict, Violation, violated};
use super::plan::Shape;
use super::sight::{self, Sight};
use super::swarm::Driver;
use super::world::World;
use crate::endpoints::{address, status, sum_of_metric};

/// What the driver says when it has removed a withdrawn identity.
const EMPTIED: &str = "the identity was withdrawn; the volume is empty now";

/// How long a busy volume may stay busy.
const QUIET: Duration = Duration::from_secs(15);

/// Of a debug build, with up to 180 volumes.
const MOST_RESIDENT_KIB: u64 = 250 * 1024;
const MOST_DESCRIPTORS: usize = 100;
const DESCRIPTORS_A_VOLUME: usize = 6;

const LOOKS_AT_REST: usize = 25;

/// What the driver's process uses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) descriptors: usize,
    pub(crate) resident_kib: u64,
}

impl World {
    /// A running pod's volume has one mount, and one that is gone has none.
    pub(crate) fn check_mounts(&self) -> Verdict {
        let mounts = World::mounts();
        let shared = self.shared();
        for (index, (slot, target)) in shared.beliefs.slots.iter().zip(&shared.targets).enumerate() {
            let (found, allowed) = (
                mounts.get(target).copied().unwrap_or_default(),
                match slot.belief {
                    _ if slot.tampered == Some(Tampering::Mount) => continue,
                    // Between the former content's unmount and the mount of the other, it was killed, or no mount succeeds: its
                    // startup or the next request mounts one.
                    Belief::Mounted if self.cannot_attach() && slot.shape().is_none() => 0..=1,
                    Belief::Mounted => 1..=1,
                    Belief::Uncertain => 0..=1,
                    Belief::Unmounted => 0..=0,
                },
            );
            if !allowed.contains(&found) {
                return Err(violated(index, format!("{found} mounts of a volume that is {:?}", slot.belief)));
            }
        }
        Ok(())
    }

    fn cannot_attach(&self) -> bool {
        self.driver == Driver::Down || self.attaching_failed
    }

    /// Nothing is left of volumes that are gone, after a while.
    pub(crate) async fn nothing_left(&self, patience: Duration) -> Verdict {
        let began = Instant::now();
        loop {
            match self.left() {
                Some(_) if !self.is_late(began, patience) => tokio::time::sleep(Duration::from_millis(100)).await,
                Some(left) => return Err(left),
                None => return Ok(()),
            }
        }
    }

    fn left(&self) -> Option<Violation> {
        let shared = self.shared();
        let beliefs = &shared.beliefs;
        let is_due = |gone: Option<Instant>| gone.is_some_and(|gone| gone <= Instant::now());
        let of_now = (0..beliefs.slots.len())
            .filter(|index| is_due(beliefs.slots[*index].gone))
            .map(|index| (index, beliefs.volume(index, Shape::Files).id().as_str().to_owned(), &shared.targets[index]));
        let former = beliefs.former.iter().filter(|former| is_due(former.gone));
        let former = former.map(|former| (former.volume, former.id.clone(), &former.target));
        let there = self.there();
        of_now.chain(former).find_map(|(index, id, target)| there.of(&id, target).map(|what| violated(index, what)))
    }

    /// Nothing is left of this volume, which the driver has just promised.
    pub(crate) fn is_gone(&self, index: usize) -> Result<(), String> {
        let id = self.any(index).id().as_str().to_owned();
        let target = self.shared().targets[index].clone();
        self.there().of(&id, &target).map_or(Ok(()), Err)
    }

    fn there(&self) -> There {
        let mut names = HashSet::new();
        names_below(&self.node.path("root"), 4, &mut names);
        There { mounts: World::mounts(), names }
    }

    /// A wanted volume is mounted once and recorded as ready, its pod sees its identity, and the driver sees no trouble.
    pub(crate) async fn is_whole(&self, index: usize) -> Result<Option<Sight>, String> {
        let (slot, target) = {
            let shared = self.shared();
            (shared.beliefs.slots[index].clone(), shared.targets[index].clone())
        };
        let shape = slot.shape().filter(|shape| slot.wanted == Some(*shape)).ok_or("it is not published as asked")?;
        let mounts = World::mounts().get(&target).copied().unwrap_or_default();
        if mounts != 1 {
            return Err(format!("{mounts} mounts"));
        }
        let sight = self.is_fresh(index, shape, &target).await?;
        self.is_recorded(index)?;
        let Some(plugin) = &self.plugin else { return Err("no driver".to_owned()) };
        let stats = self.node.kubelet.stats(plugin, &self.any(index)).await.map_err(|error| error.to_string())?;
        match stats.volume_condition.filter(|condition| condition.abnormal) {
            Some(condition) => Err(format!("the condition is abnormal: {}", condition.message)),
            None => Ok(sight),
        }
    }

    /// What the driver has answered is on disk, where its next startup finds it.
    pub(crate) fn is_recorded(&self, index: usize) -> Result<(), String> {
        let path = self.records().join(format!("{}.json", self.any(index).id()));
        let record = fs::read(path).map_err(|error| format!("the record: {error}"))?;
        let record = Record::from_json(&record).map_err(|error| format!("the record: {error}"))?;
        if record.phase == Phase::Ready { Ok(()) } else { Err(format!("the record says {:?}", record.phase)) }
    }

    /// The driver has taken up everything that its startup found, without a call of the kubelet.
    pub(crate) async fn nothing_left_alone(&self, patience: Duration) -> Verdict {
        let began = Instant::now();
        loop {
            // What another program has changed may wait for the kubelet.
            let is_tampered = self.shared().beliefs.slots.iter().any(|slot| slot.tampered.is_some());
            let left_alone = sum_of_metric(&self.node, "volumes_left_alone").await;
            if is_tampered || left_alone == 0.0 {
                return Ok(());
            }
            if self.is_late(began, patience) {
                let what = format!("{left_alone} volumes are left alone, {patience:?} after the last fault");
                return Err(Violation { volume: None, what });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the last startup has left alone, if anything, is in the queue of what is retried.
    pub(crate) async fn left_alone_is_queued(&mut self) -> Verdict {
        let began = Instant::now();
        while self.left_alone && self.driver != Driver::Down && self.active.is_empty() {
            // What another program has changed waits for the kubelet.
            let is_tampered = self.shared().beliefs.slots.iter().any(|slot| slot.tampered.is_some());
            let Some((left_alone, queued)) = self.queue().await.filter(|_| !is_tampered) else { break };
            self.left_alone = left_alone > 0.0;
            if left_alone <= queued {
                break;
            }
            if self.is_late(began, QUIET) {
                let what = format!("{left_alone} volumes are left alone, and {queued} are retried");
                return Err(Violation { volume: None, what });
            }
            // One that is being retried is not in the queue.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// How many volumes the driver has left alone, and how many it retries; `None` if it does not say.
    async fn queue(&self) -> Option<(f64, f64)> {
        let ask = async {
            let mut stream = TcpStream::connect(address(&self.node)).await?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
            let mut page = String::new();
            stream.read_to_string(&mut page).await.map(|_| page)
        };
        let page = timeout(QUIET, ask).await.ok()?.ok()?;
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix("svid_csi_")?.strip_prefix(name));
            line?.split_whitespace().last()?.parse().ok()
        };
        Some((value("volumes_left_alone")?, value("volumes_queued{reason=\"retry\"}")?))
    }

    /// What the driver itself says of a volume, for a story.
    pub(crate) async fn says_of(&self, volume: Option<usize>) -> String {
        let Some(volume) = volume.filter(|_| self.driver != Driver::Down) else { return String::new() };
        let ask = async {
            let mut stream = UnixStream::connect(self.node.path("admin.sock")).await?;
            stream.write_all(b"GET /facts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
            let mut page = String::new();
            stream.read_to_string(&mut page).await.map(|_| page)
        };
        let page = timeout(QUIET, ask).await.ok().and_then(Result::ok).unwrap_or_default();
        let facts = page.split_once("\r\n\r\n").and_then(|(_, json)| serde_json::from_str(json).ok());
        let facts: serde_json::Value = facts.unwrap_or_default();
        format!("the driver says: {}\n", facts["volumes"][self.any(volume).id().as_str()])
    }

    /// A volume that the driver says to be empty after a withdrawal is empty.
    pub(crate) async fn empty_after_withdrawals(&self) -> Verdict {
        let (start, new) = self.new_of_log();
        for (place, line) in new.match_indices(EMPTIED).map(|(place, _)| (start + place, line_at(&new, place))) {
            let (slots, entitled) = {
                let beliefs = &self.shared().beliefs;
                (beliefs.slots.clone(), beliefs.entitled.clone())
            };
            let is_meant = |index: &usize| {
                !entitled[World::pod_of(*index)]
                    && slots[*index].tampered != Some(Tampering::Mount)
                    && line.contains(self.any(*index).id().as_str())
            };
            for index in (0..slots.len()).filter(is_meant) {
                for shape in slots[index].may_be.iter().copied().filter(|shape| shape.is_of_agent()) {
                    self.is_empty_since(index, shape, place).await?;
                }
            }
        }
        Ok(())
    }

    /// An identity that can be read now was issued after that place in the log.
    async fn is_empty_since(&self, index: usize, shape: Shape, place: usize) -> Verdict {
        let target = self.shared().targets[index].clone();
        for _ in 0..2 {
            let Ok(Some(sight)) = sight::look(&target, World::pod_of(index), shape).await else { return Ok(()) };
            if self.node.log().get(place..).is_some_and(|since| since.contains(&sight.serial)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Err(violated(
            index,
            "the driver says that the volume is empty after a withdrawal, and its identity can be read",
        ))
    }

    /// What the driver has logged since the last time, and where that begins.
    fn new_of_log(&self) -> (usize, String) {
        let read = || {
            let mut log = fs::File::open(self.node.path("log"))?;
            log.seek(SeekFrom::Start(u64::try_from(self.log_read.get()).unwrap()))?;
            let mut new = Vec::new();
            log.read_to_end(&mut new).map(|_| new)
        };
        let mut new: Vec<u8> = read().unwrap_or_default();
        new.truncate(new.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
        let start = self.log_read.get();
        self.log_read.set(start + new.len());
        (start, String::from_utf8_lossy(&new).into_owned())
    }

    /// No identity is in a directory that all pods share.
    pub(crate) fn check_shared_directories(&self) -> Verdict {
        let mut files = Vec::new();
        for folder in ["run/agent", "root/data/agent", "root/agent"] {
            identities_below(&self.node.path(folder), 3, &mut files);
        }
        match files.first() {
            Some(file) => {
                let what = format!("all pods can read the identity in {}", file.display());
                Err(Violation { volume: None, what })
            }
            None => Ok(()),
        }
    }

    /// A pod sees an identity that has not expired.
    pub(crate) async fn is_fresh(&self, index: usize, shape: Shape, target: &Path) -> Result<Option<Sight>, String> {
        let sight = sight::look(target, World::pod_of(index), shape).await.map_err(sight::Wrong::text)?;
        match sight {
            Some(sight) if sight.is_expired() => Err(format!("it has expired: {sight:?}")),
            sight => Ok(sight),
        }
    }

    /// The status page and the records on disk are about the same volumes.
    pub(crate) async fn status_is_disk(&self) -> Verdict {
        let began = Instant::now();
        loop {
            let page = status(&self.node).await;
            let listed: BTreeSet<_> = page["volumes"].as_object().unwrap().keys().cloned().collect();
            let mut records = HashSet::new();
            names_below(&self.records(), 1, &mut records);
            let records: BTreeSet<_> = records.into_iter().collect();
            if listed == records && page["busy"] == 0 {
                return Ok(());
            }
            if self.is_late(began, QUIET) {
                let odd: Vec<_> = listed.symmetric_difference(&records).collect();
                let busy = &page["busy"];
                return Err(Violation {
                    volume: None,
                    what: format!("on one side only: {odd:?}; {busy} volumes are busy"),
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every identity that a pod has seen is in the audit log.
    pub(crate) fn is_audited(&self, serials: &mut HashSet<String>) -> Verdict {
        let log = self.node.log();
        serials.retain(|serial| !log.contains(serial.as_str()));
        match serials.iter().next() {
            Some(serial) => Err(Violation { volume: None, what: format!("{serial} is not in the audit log") }),
            None => Ok(()),
        }
    }

    /// What the driver uses without volumes, once connections and buffers of the last calls are gone; nothing if there are some,
    /// or if it is not the first driver of this run.
    pub(crate) async fn at_rest(&mut self) -> Option<Usage> {
        let is_empty = self.shared().beliefs.slots.iter().all(|slot| slot.belief == Belief::Unmounted);
        if !is_empty || *self.first.get_or_insert(self.node.pid()) != self.node.pid() {
            return None;
        }
        let mut least = self.usage().ok()?;
        for _ in 0..LOOKS_AT_REST {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = self.usage().ok()?;
            least.descriptors = least.descriptors.min(now.descriptors);
            least.resident_kib = least.resident_kib.min(now.resident_kib);
        }
        Some(least)
    }

    /// What the driver uses now; an error beyond the limits.
    pub(crate) fn usage(&self) -> Result<Usage, Violation> {
        if self.driver == Driver::Down {
            return Ok(Usage::default());
        }
        let pid = self.node.pid();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident_kib = resident.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default();
        let usage = Usage { descriptors, resident_kib };
        let most = MOST_DESCRIPTORS + DESCRIPTORS_A_VOLUME * self.shared().beliefs.slots.len();
        if descriptors > most || resident_kib > MOST_RESIDENT_KIB {
            return Err(Violation { volume: None, what: format!("the driver uses {usage:?}") });
        }
        Ok(usage)
    }
}

/// The mounts of the node and the files of the driver.
struct There {
    mounts: HashMap<PathBuf, usize>,
    /// Of files and folders in the data root.
    names: HashSet<String>,
}

impl There {
    /// The first leftover of a volume.
    fn of(&self, id: &str, target: &Path) -> Option<String> {
        if self.mounts.contains_key(target) {
            return Some("a mount is left".to_owned());
        }
        if fs::symlink_metadata(target).is_ok() {
            return Some(format!("{} is left", target.display()));
        }
        self.names.contains(id).then(|| format!("a file of {id} is left in the data root"))
    }
}

/// The line of a text at that place.
fn line_at(text: &str, place: usize) -> &str {
    let start = text[..place].rfind('\n').map_or(0, |end| end + 1);
    text[start..].lines().next().unwrap_or_default()
}

/// Files of identities.
fn identities_below(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_of_identity =
            |ending: &std::ffi::OsStr| ["key", "crt", "pem", "p12", "token"].iter().any(|one| ending == *one);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 1 => identities_below(&path, depth - 1, files),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(is_of_identity) => files.push(path),
            _ => {}
        }
    }
}

/// The names of files and folders, without their extensions.
fn names_below(folder: &Path, depth: usize, names: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| !stem.starts_with('.')) {
            names.insert(stem.to_owned());
            if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                names_below(&path, depth - 1, names);
            }
        }
    }
}
