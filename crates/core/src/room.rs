//! The space that all volumes of a node share, and how much of it new volumes may use.
//!
//! A part of it is reserved for the files of volumes that are already published, so that pods that fill the node cannot
//! prevent the renewal of others. A volume, a pod and a namespace may use only a share of the space that they leave to
//! others, so that a newcomer finds space on a node with greedy pods: a single namespace may use half of it, and each
//! of two a third.
//!
//! A file that was replaced needs its space until the last process has closed it. What a pod keeps open that way counts
//! as its own, and a pod that keeps much open gets nothing of the reserve.

use std::collections::HashMap;
use std::fmt;

use crate::pod::PodRef;
use crate::volume::{Content, VolumeSpec};
use crate::volume_id::VolumeId;

/// The reserved part of the space: an eighth.
const RESERVE: u64 = 8;
/// A volume holds at most half of the reserve: its new files are written beside the old ones, in the reserve if
/// nothing else is left, and records and growing bundles are written there too.
const VOLUMES_IN_RESERVE: u64 = 2;
/// A pod may keep this part of the reserve open in replaced files, and still use the rest.
const KEPT_OPEN: u64 = 64;
/// It may always keep that much: programs may be reading, and others write at the same time.
const LEAST_KEPT_OPEN: Amount = Amount { bytes: 64 << 10, inodes: 32 };
/// A pod may use at most this part of the space that it leaves to others: a quarter.
const PODS: u64 = 4;

/// The inodes of a volume other than those of its files: its folder, the current folder, the link to that, the record,
/// and data saved for a restart.
const INODES_BESIDE: u64 = 5;

/// An amount of space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes, in whole pages.
    pub bytes: u64,
    /// Files, folders and links.
    pub inodes: u64,
}

/// The file system of the volumes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The total.
    pub size: Amount,
    /// The unused part.
    pub free: Amount,
}

/// The limit that a volume would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The limit of one volume.
    Volume,
    /// The limit of all volumes: all space except the reserve.
    Node,
    /// The limit of all volumes of one pod.
    Pod,
    /// The limit of all volumes of one namespace.
    Namespace,
    /// The space outside the reserve, for a pod that keeps replaced files open.
    KeptOpen,
}

/// There is not enough space for a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// The limit that the volume would exceed.
    pub bound: Bound,
    /// `bytes` or `inodes`: the resource that is short.
    pub of: &'static str,
    /// How much the volume needs.
    pub need: u64,
    /// How much that limit still allows.
    pub allowed: u64,
    /// The total for all volumes on the node.
    pub size: u64,
}

/// The space that volumes hold, and the space promised to volumes that have not used it yet.
#[derive(Debug, Default)]
pub struct Ledger {
    volumes: HashMap<VolumeId, Holding>,
    pods: HashMap<String, u64>,
    namespaces: HashMap<String, u64>,
    /// By the UID of the pod.
    kept_open: HashMap<String, Amount>,
    promised: Amount,
    /// What all volumes hold on the file system.
    written: Amount,
}

#[derive(Debug)]
struct Holding {
    pod: Option<(String, String)>,
    amount: Amount,
    /// The same, if the driver has written all of it since it was started.
    delivered: Option<Amount>,
    is_written: bool,
}

impl Amount {
    /// The minimum size of a volume: its record, and a page for each file before the sizes are known.
    pub fn least(spec: &VolumeSpec, page: u64) -> Self {
        match &spec.content {
            Content::Passthrough => Amount { bytes: page, inodes: 1 },
            Content::WorkloadApi(_) => Self::of_files([0], page),
            Content::Files(wanted) => {
                let files = wanted.names.count() + wanted.extras.count();
                Self::of_files(std::iter::repeat_n(0, files), page)
            }
        }
    }

    /// The space for a volume with files of these sizes in bytes, including its record. An empty file counts as a page.
    pub fn of_files(sizes: impl IntoIterator<Item = usize>, page: u64) -> Self {
        let page = page.max(1);
        let record = Amount { bytes: page, inodes: INODES_BESIDE };
        sizes.into_iter().fold(record, |sum, size| {
            let pages = u64::try_from(size).unwrap_or(u64::MAX).div_ceil(page).max(1);
            // A file, and the link to it.
            Amount { bytes: sum.bytes.saturating_add(pages.saturating_mul(page)), inodes: sum.inodes + 2 }
        })
    }

    fn less(self, other: Self) -> Self {
        Amount { bytes: self.bytes.saturating_sub(other.bytes), inodes: self.inodes.saturating_sub(other.inodes) }
    }

    fn plus(self, other: Self) -> Self {
        Amount { bytes: self.bytes.saturating_add(other.bytes), inodes: self.inodes.saturating_add(other.inodes) }
    }

    fn at_most(self, other: Self) -> Self {
        Amount { bytes: self.bytes.min(other.bytes), inodes: self.inodes.min(other.inodes) }
    }

    fn fits(self, other: Self) -> bool {
        self.bytes <= other.bytes && self.inodes <= other.inodes
    }
}

impl Space {
    fn used(self) -> Amount {
        self.size.less(self.free)
    }

    /// The part reserved for volumes that are already published.
    pub fn reserve(&self) -> Amount {
        Amount { bytes: self.size.bytes / RESERVE, inodes: self.size.inodes / RESERVE }
    }
}

impl Ledger {
    /// Promises `need` to a volume, unless it already holds as much.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing is promised.
    pub fn promise(&mut self, space: Space, id: &VolumeId, pod: Option<&PodRef>, need: Amount) -> Result<(), Refusal> {
        let (held, is_written) = self.volumes.get(id).map_or_else(Default::default, |it| (it.amount, it.is_written));
        if need.fits(held) {
            return Ok(());
        }
        let (on_disk, promised) = if is_written { (held, Amount::default()) } else { (Amount::default(), held) };
        let free = space.free.less(self.promised.less(promised));
        self.check(space, free, pod, need, on_disk, held)?;
        if !is_written {
            self.set(id, pod, need, None, false);
        }
        Ok(())
    }

    /// Whether a published volume may be written again, with files of that amount beside its former ones.
    ///
    /// # Errors
    /// [`Refusal`], if that needs the reserve and its pod keeps too much of it open.
    pub fn renew(&self, space: Space, pod: Option<&PodRef>, need: Amount) -> Result<(), Refusal> {
        let reserve = space.reserve();
        let Some(refusal) = lacking(Bound::KeptOpen, need, space.free.less(reserve), space.size) else { return Ok(()) };
        let kept = pod.map(|pod| self.kept_open(pod, space)).unwrap_or_default();
        let limit = |reserve: u64, least: u64| (reserve / KEPT_OPEN).max(least);
        let most = Amount {
            bytes: limit(reserve.bytes, LEAST_KEPT_OPEN.bytes),
            inodes: limit(reserve.inodes, LEAST_KEPT_OPEN.inodes),
        };
        if kept.fits(most) { Ok(()) } else { Err(refusal) }
    }

    fn check(
        &self,
        space: Space,
        free: Amount,
        pod: Option<&PodRef>,
        need: Amount,
        on_disk: Amount,
        held: Amount,
    ) -> Result<(), Refusal> {
        let (reserve, size) = (space.reserve(), space.size);
        let refuse = |bound, allowed| Err(Refusal { bound, of: "bytes", need: need.bytes, allowed, size: size.bytes });
        let largest = reserve.bytes / VOLUMES_IN_RESERVE;
        if need.bytes > largest {
            return refuse(Bound::Volume, largest);
        }
        let allowed = free.less(reserve).plus(on_disk);
        if let Some(refusal) = lacking(Bound::Node, need, allowed, size) {
            return Err(refusal);
        }
        let Some(pod) = pod else { return Ok(()) };
        // Both sides grow by what the volume needs: `others + need <= (allowed - need) / part`.
        for (bound, part, all) in
            [(Bound::Namespace, 1, self.namespaces.get(&pod.namespace)), (Bound::Pod, PODS, self.pods.get(&pod.uid))]
        {
            let kept = if bound == Bound::Pod { self.kept_open(pod, space).bytes } else { 0 };
            let others = all.copied().unwrap_or_default().saturating_sub(held.bytes).saturating_add(kept);
            let share = allowed.bytes.saturating_sub(others.saturating_mul(part)) / (part + 1);
            if need.bytes > share {
                return refuse(bound, share);
            }
        }
        Ok(())
    }

    /// Records that a volume holds that amount.
    pub fn wrote(&mut self, id: &VolumeId, pod: Option<&PodRef>, amount: Amount) {
        self.set(id, pod, amount, None, true);
    }

    /// Whether the driver has written the files of a volume since it was started.
    pub fn has_delivered(&self, id: &VolumeId) -> bool {
        self.volumes.get(id).is_some_and(|holding| holding.delivered.is_some())
    }

    /// Records that all files of a volume were written. `seen` is the space before and after that, if there were
    /// [former ones](Self::has_delivered): less has become free than they needed if its pod keeps them open.
    pub fn delivered(&mut self, id: &VolumeId, pod: Option<&PodRef>, files: Amount, seen: Option<[Space; 2]>) {
        let former = self.volumes.get(id).and_then(|holding| holding.delivered);
        self.set(id, pod, files, Some(files), true);
        let (Some(pod), Some(former), Some([before, after])) = (pod, former, seen) else { return };
        let kept = self.kept_open(pod, before).plus(after.used()).plus(former).less(before.used().plus(files));
        let kept = kept.at_most(self.unaccounted(after));
        if kept == Amount::default() {
            self.kept_open.remove(&pod.uid);
        } else {
            self.kept_open.insert(pod.uid.clone(), kept);
        }
    }

    /// What a pod still keeps open, as far as is known: it may have closed files since they were replaced.
    fn kept_open(&self, pod: &PodRef, space: Space) -> Amount {
        self.kept_open.get(&pod.uid).copied().unwrap_or_default().at_most(self.unaccounted(space))
    }

    /// The used space that no volume accounts for.
    fn unaccounted(&self, space: Space) -> Amount {
        space.used().less(self.written)
    }

    /// How many bytes a volume holds.
    pub fn bytes_of(&self, id: &VolumeId) -> u64 {
        self.volumes.get(id).map_or(0, |holding| holding.amount.bytes)
    }

    /// Records that a volume no longer holds anything.
    pub fn release(&mut self, id: &VolumeId) {
        let Some(Holding { pod: Some((uid, _)), .. }) = self.take_out(id) else { return };
        if !self.pods.contains_key(&uid) {
            self.kept_open.remove(&uid);
        }
    }

    fn take_out(&mut self, id: &VolumeId) -> Option<Holding> {
        let holding = self.volumes.remove(id)?;
        let sum = if holding.is_written { &mut self.written } else { &mut self.promised };
        *sum = sum.less(holding.amount);
        if let Some((uid, namespace)) = &holding.pod {
            subtract(&mut self.pods, uid, holding.amount.bytes);
            subtract(&mut self.namespaces, namespace, holding.amount.bytes);
        }
        Some(holding)
    }

    fn set(
        &mut self,
        id: &VolumeId,
        pod: Option<&PodRef>,
        amount: Amount,
        delivered: Option<Amount>,
        is_written: bool,
    ) {
        self.take_out(id);
        let sum = if is_written { &mut self.written } else { &mut self.promised };
        *sum = sum.plus(amount);
        if let Some(pod) = pod {
            *self.pods.entry(pod.uid.clone()).or_default() += amount.bytes;
            *self.namespaces.entry(pod.namespace.clone()).or_default() += amount.bytes;
        }
        let pod = pod.map(|pod| (pod.uid.clone(), pod.namespace.clone()));
        self.volumes.insert(id.clone(), Holding { pod, amount, delivered, is_written });
    }
}

/// The refusal of what that bound does not allow, if anything.
fn lacking(bound: Bound, need: Amount, allowed: Amount, size: Amount) -> Option<Refusal> {
    if need.inodes > allowed.inodes {
        Some(Refusal { bound, of: "inodes", need: need.inodes, allowed: allowed.inodes, size: size.inodes })
    } else if need.bytes > allowed.bytes {
        Some(Refusal { bound, of: "bytes", need: need.bytes, allowed: allowed.bytes, size: size.bytes })
    } else {
        None
    }
}

fn subtract(of: &mut HashMap<String, u64>, name: &str, bytes: u64) {
    if let Some(held) = of.get_mut(name) {
        *held = held.saturating_sub(bytes);
        if *held == 0 {
            of.remove(name);
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { bound, of, need, allowed, size } = self;
        let what = match bound {
            Bound::Volume => "the limit per volume is",
            Bound::Node => "the free space not reserved for renewals is",
            Bound::Pod => "the rest of the pod's share (a quarter of what it leaves to others) is",
            Bound::Namespace => "the rest of the namespace's share (as much as it leaves to others) is",
            Bound::KeptOpen => "the pod keeps files open that were replaced, and for such a pod the rest is",
        };
        let fix = match bound {
            Bound::KeptOpen => "close them, or delete the pod",
            _ => "run fewer volumes on the node, or increase --data-size-limit",
        };
        write!(
            f,
            "the volume needs {need} {of} of the {size} {of} for all volumes on the node, but {what} {allowed}: {fix}"
        )
    }
}

#[cfg(test)]
mod tests;
