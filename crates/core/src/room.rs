//! The space that all volumes of a node share, and how much of it new volumes may use.
//!
//! A part of it is reserved for the files of volumes that are already published, so that pods that fill the node cannot
//! prevent the renewal of others. A volume, a pod and a namespace may use only a share of the space that they leave to
//! others, so that a newcomer finds space on a node with greedy pods: a single namespace may use half of it, and each
//! of two a third.
//!
//! A file that was replaced needs its space until the last process has closed it. What a pod keeps open that way counts
//! as its own and its namespace's. A pod that keeps much open gets nothing of the reserve, and pods of a namespace that
//! does leave half of it to others.
//!
//! The kernel does not tell what a pod keeps open. If less becomes free than the replaced files needed, the difference is
//! charged to their pod. What becomes free later, and was in no volume, is taken off the charges again, the lowest
//! first: a pod that keeps little closes it soon.

use std::collections::HashMap;
use std::fmt;

use crate::findings::Check;
use crate::pod::PodRef;
use crate::volume::{Content, VolumeSpec};
use crate::volume_id::VolumeId;

/// The reserved part of the space: an eighth.
const RESERVE: u64 = 8;
/// A volume holds at most half of the reserve: its new files are written beside the old ones, in the reserve if
/// nothing else is left, and records and growing bundles are written there too.
const VOLUMES_IN_RESERVE: u64 = 2;
/// A pod may keep this part of the reserve open in replaced files, and still use the rest.
const KEPT_BY_POD: u64 = 64;
/// The pods of a namespace may keep this part of it open together, and still use all of the rest.
const KEPT_BY_NAMESPACE: u64 = 16;
/// If they keep more, they leave half of the reserve to others: any volume fits into that.
const LEFT_TO_OTHERS: u64 = VOLUMES_IN_RESERVE;
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
    KeptByPod,
    /// The space outside half of the reserve, for a namespace with pods that keep replaced files open.
    KeptByNamespace,
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
    /// What pods keep open: by namespace, and there by the UID of the pod.
    kept_open: HashMap<String, HashMap<String, Amount>>,
    promised: Amount,
    /// What all volumes hold on the file system.
    written: Amount,
    last: Occupancy,
}

/// The used space at one moment, and how much of it volumes held.
#[derive(Debug, Clone, Copy, Default)]
struct Occupancy {
    used: Amount,
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

    fn at_least(self, other: Self) -> Self {
        Amount { bytes: self.bytes.max(other.bytes), inodes: self.inodes.max(other.inodes) }
    }

    fn part(self, of: u64) -> Self {
        Amount { bytes: self.bytes / of, inodes: self.inodes / of }
    }

    fn sum<'a>(amounts: impl IntoIterator<Item = &'a Self>) -> Self {
        amounts.into_iter().fold(Amount::default(), |sum, amount| sum.plus(*amount))
    }

    fn fits(self, other: Self) -> bool {
        self.bytes <= other.bytes && self.inodes <= other.inodes
    }
}

impl Refusal {
    /// The finding that explains it. There is none about the node if only a volume, pod or namespace reaches its limit.
    pub fn finding(&self) -> Option<&'static Check> {
        match self.bound {
            Bound::Node | Bound::KeptByPod | Bound::KeptByNamespace => Some(match self.of {
                "inodes" => crate::finding!("data-inodes-nearly-used"),
                _ => crate::finding!("data-nearly-full"),
            }),
            Bound::Volume | Bound::Pod | Bound::Namespace => None,
        }
    }
}

impl Space {
    fn used(self) -> Amount {
        self.size.less(self.free)
    }

    /// The part reserved for volumes that are already published.
    pub fn reserve(&self) -> Amount {
        self.size.part(RESERVE)
    }
}

impl Ledger {
    /// Promises `need` to a volume, unless it already holds as much.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing is promised.
    pub fn promise(&mut self, space: Space, id: &VolumeId, pod: Option<&PodRef>, need: Amount) -> Result<(), Refusal> {
        self.settle(space);
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
    /// [`Refusal`], if that needs the reserve and its pod or namespace keeps too much of it open.
    pub fn renew(&mut self, space: Space, pod: Option<&PodRef>, need: Amount) -> Result<(), Refusal> {
        self.settle(space);
        let (Some(pod), reserve) = (pod, space.reserve()) else { return Ok(()) };
        let (by_pod, by_namespace) = (self.kept_by_pod(pod), self.kept_by_namespace(pod));
        for (bound, kept, most, left) in [
            (Bound::KeptByPod, by_pod, reserve.part(KEPT_BY_POD), reserve),
            (Bound::KeptByNamespace, by_namespace, reserve.part(KEPT_BY_NAMESPACE), reserve.part(LEFT_TO_OTHERS)),
        ] {
            let keeps_much = !kept.fits(most.at_least(LEAST_KEPT_OPEN));
            if keeps_much && let Some(refusal) = lacking(bound, need, space.free.less(left), space.size) {
                return Err(refusal);
            }
        }
        Ok(())
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
        for (bound, part, all, kept) in [
            (Bound::Namespace, 1, self.namespaces.get(&pod.namespace), self.kept_by_namespace(pod)),
            (Bound::Pod, PODS, self.pods.get(&pod.uid), self.kept_by_pod(pod)),
        ] {
            let others = all.copied().unwrap_or_default().saturating_sub(held.bytes).saturating_add(kept.bytes);
            let share = allowed.bytes.saturating_sub(others.saturating_mul(part)) / (part + 1);
            if need.bytes > share {
                return refuse(bound, share);
            }
        }
        Ok(())
    }

    /// Records that a volume holds that amount. `is_delivered` says that it is all of what the driver has written.
    pub fn wrote(&mut self, id: &VolumeId, pod: Option<&PodRef>, amount: Amount, is_delivered: bool) {
        let before = self.written;
        self.set(id, pod, amount, is_delivered.then_some(amount), true);
        // Nothing has changed on the file system.
        self.last.written = self.last.written.plus(self.written).less(before);
    }

    /// Records that all files of a volume were written. `before` and `after` are the space then: if it had former files,
    /// and less has become free than they needed, its pod keeps them open.
    pub fn delivered(&mut self, id: &VolumeId, pod: Option<&PodRef>, files: Amount, [before, after]: [Space; 2]) {
        self.settle(before);
        let former = self.volumes.get(id).and_then(|holding| holding.delivered);
        self.set(id, pod, files, Some(files), true);
        let Some(former) = former else {
            self.last = self.occupancy(after);
            return;
        };
        let kept = after.used().plus(former).less(before.used().plus(files)).at_most(former);
        if let Some(pod) = pod.filter(|_| kept != Amount::default()) {
            let charge = self.kept_open.entry(pod.namespace.clone()).or_default().entry(pod.uid.clone()).or_default();
            *charge = charge.plus(kept);
        }
        self.settle(after);
    }

    /// Records that files of a volume were removed, which now holds `rest`, or nothing. `before` and `after` are the space
    /// then: what became free is not what pods have closed.
    pub fn removed(&mut self, id: &VolumeId, pod: Option<&PodRef>, rest: Option<Amount>, [before, after]: [Space; 2]) {
        self.settle(before);
        match rest {
            Some(rest) => self.set(id, pod, rest, None, true),
            None => self.release(id),
        }
        self.last = self.occupancy(after);
    }

    /// Takes what has become free since the last look, and was in no volume, off the charges.
    fn settle(&mut self, space: Space) {
        let now = self.occupancy(space);
        let last = std::mem::replace(&mut self.last, now);
        let mut closed = last.used.plus(now.written).less(now.used.plus(last.written));
        if closed == Amount::default() || self.kept_open.is_empty() {
            return;
        }
        let order = |amount: Amount| (amount.bytes, amount.inodes);
        let mut namespaces: Vec<_> = self.kept_open.values_mut().collect();
        namespaces.sort_by_key(|pods| order(Amount::sum(pods.values())));
        for pods in namespaces {
            let mut charges: Vec<_> = pods.values_mut().collect();
            charges.sort_by_key(|charge| order(**charge));
            for charge in charges {
                let back = charge.at_most(closed);
                (*charge, closed) = (charge.less(back), closed.less(back));
            }
            pods.retain(|_, charge| *charge != Amount::default());
        }
        self.kept_open.retain(|_, pods| !pods.is_empty());
    }

    fn occupancy(&self, space: Space) -> Occupancy {
        Occupancy { used: space.used(), written: self.written }
    }

    fn kept_by_pod(&self, pod: &PodRef) -> Amount {
        let pods = self.kept_open.get(&pod.namespace);
        pods.and_then(|pods| pods.get(&pod.uid)).copied().unwrap_or_default()
    }

    fn kept_by_namespace(&self, pod: &PodRef) -> Amount {
        self.kept_open.get(&pod.namespace).map_or_else(Amount::default, |pods| Amount::sum(pods.values()))
    }

    /// How many bytes a volume holds.
    pub fn bytes_of(&self, id: &VolumeId) -> u64 {
        self.volumes.get(id).map_or(0, |holding| holding.amount.bytes)
    }

    /// Records that a volume no longer holds anything.
    pub fn release(&mut self, id: &VolumeId) {
        let Some(Holding { pod: Some((uid, namespace)), .. }) = self.take_out(id) else { return };
        if self.pods.contains_key(&uid) {
            return;
        }
        if let Some(pods) = self.kept_open.get_mut(&namespace) {
            pods.remove(&uid);
            self.kept_open.retain(|_, pods| !pods.is_empty());
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
            Bound::KeptByPod => "the pod keeps files open that were replaced, and for such a pod the rest is",
            Bound::KeptByNamespace => {
                "pods of the namespace keep files open that were replaced, and for such a namespace the rest is"
            }
        };
        let fix = match bound {
            Bound::KeptByPod => "close them, or delete the pod",
            Bound::KeptByNamespace => "close them, or delete the pods that keep them open",
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
