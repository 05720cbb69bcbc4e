//! The volumes of this node, in memory.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use svid_csi_core::pod::PodRef;
use svid_csi_core::renew;
use svid_csi_core::state::{Issued, Phase, Record};
use svid_csi_core::volume::{Content, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_core::x509_context::X509Context;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::Node;
use super::bundle::Behind;
use super::error::VolumeError;
use super::jwt::Jwt;
use super::renewal::{self, RenewalSignals, RenewalTrouble};
use super::room::SpaceReservation;
use crate::host::clock;
use crate::host::fsx::FsError;

/// The jitter with which a renewal is due last.
const LATEST: f64 = 1.0;

/// How long to wait for busy volumes in total while reading all of them.
const BUSY_AT_MOST: Duration = Duration::from_secs(2);

/// A volume of this driver.
#[derive(Debug)]
pub struct Volume {
    /// The record, equal to the one on disk, see [`Node::record`].
    record: Record,
    /// Notified to renew now.
    pub renew_now: Arc<Notify>,
    /// Notified to read the clock again.
    overslept: Arc<Notify>,
    /// The source's response that could not be installed, so that it need not be requested again.
    pub uninstalled: Option<Arc<X509Context>>,
    /// When it was last requested, or recovered.
    pub asked: Instant,
    /// Whether its recovery at startup failed and is retried.
    pub unfinished: bool,
    /// The identity in its record was removed from it, which could not be recorded.
    pub(super) is_emptied: bool,
    /// Why the current trust bundle could not be written into it, if it was not.
    pub(super) behind: Option<Behind>,
    /// Its last entry in the audit log.
    audited: Option<String>,
    renewal: Option<Box<RunningRenewal>>,
    _reservation: VolumeReservation,
}

/// A running renewal, its spec, and why it failed last. Boxed, because most volumes of a node with sockets have none.
#[derive(Debug)]
struct RunningRenewal {
    spec: Arc<VolumeSpec>,
    task: AbortHandle,
    trouble: RenewalTrouble,
}

/// The slot of one volume; its lock is held during every operation on the volume.
type Slot = Arc<tokio::sync::Mutex<Option<Volume>>>;
type Slots = Arc<Mutex<HashMap<VolumeId, Slot>>>;

/// A held lock. Owned, so that blocking work keeps it even if the call that started the work is cancelled.
#[derive(Debug)]
pub struct Held {
    lock: OwnedMutexGuard<Option<Volume>>,
    // After the lock: dropped in this order.
    _claim: Claim,
}

/// Held by the lock's holder and by waiters. When the last of them drops it and the slot is empty, the slot is removed.
#[derive(Debug)]
struct Claim {
    id: VolumeId,
    slots: Slots,
}

/// All volumes by id, and the number of volumes of each pod.
#[derive(Debug, Default)]
pub struct Volumes {
    slots: Slots,
    per_pod: Arc<Mutex<HashMap<String, usize>>>,
}

/// A reservation of a volume: one of the pod's allowed number, and its space on the tmpfs. Released when dropped.
#[derive(Debug)]
pub struct VolumeReservation {
    pod_uid: Option<String>,
    per_pod: Arc<Mutex<HashMap<String, usize>>>,
    _space: Option<SpaceReservation>,
}

impl Deref for Held {
    type Target = Option<Volume>;

    fn deref(&self) -> &Option<Volume> {
        &self.lock
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Option<Volume> {
        &mut self.lock
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty = |slot: &Slot| slot.try_lock().is_ok_and(|volume| volume.is_none());
        if slots.get(&self.id).is_some_and(|slot| Arc::strong_count(slot) == 1 && is_empty(slot)) {
            slots.remove(&self.id);
        }
    }
}

impl Volumes {
    /// The slot of a volume, created if missing.
    fn claim(&self, id: &VolumeId) -> (Claim, Slot) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(id.clone()).or_default().clone();
        (Claim { id: id.clone(), slots: self.slots.clone() }, slot)
    }

    /// Takes the lock of a volume.
    pub async fn hold(&self, id: &VolumeId) -> Held {
        let (claim, slot) = self.claim(id);
        Held { lock: slot.lock_owned().await, _claim: claim }
    }

    /// Takes the lock of a volume, unless it is held.
    pub fn try_hold(&self, id: &VolumeId) -> Option<Held> {
        let (claim, slot) = self.claim(id);
        Some(Held { lock: slot.try_lock_owned().ok()?, _claim: claim })
    }

    /// Reserves one more volume for a pod, unless it already has `limit`. Volumes of unknown pods are not counted.
    pub fn reserve(
        &self,
        pod: Option<&PodRef>,
        limit: usize,
        space: Option<SpaceReservation>,
    ) -> Option<VolumeReservation> {
        let pod_uid = pod.map(|pod| pod.uid.clone());
        if let Some(uid) = &pod_uid {
            let mut per_pod = self.per_pod.lock().unwrap_or_else(PoisonError::into_inner);
            let count = per_pod.entry(uid.clone()).or_default();
            if *count >= limit {
                return None;
            }
            *count += 1;
        }
        Some(VolumeReservation { pod_uid, per_pod: self.per_pod.clone(), _space: space })
    }

    /// All volumes, to be visited one after the other.
    pub fn all(&self) -> Vec<VolumeId> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// The number of entries of volumes and of pods.
    #[cfg(test)]
    pub(in crate::node) fn entries(&self) -> (usize, usize) {
        let volumes = self.slots.lock().unwrap_or_else(PoisonError::into_inner).len();
        (volumes, self.per_pod.lock().unwrap_or_else(PoisonError::into_inner).len())
    }

    /// Reads the state of every volume. Waits for busy volumes, but not for slow sources.
    ///
    /// Returns the number of volumes that stayed busy and were skipped.
    pub async fn each(&self, look: impl FnMut(&Volume)) -> usize {
        self.each_within(BUSY_AT_MOST, look).await
    }

    /// The same, waiting at most that long for busy volumes in total.
    pub async fn each_within(&self, patience: Duration, mut look: impl FnMut(&Volume)) -> usize {
        let deadline = Instant::now() + patience;
        let mut busy = 0;
        for id in self.all() {
            match timeout_at(deadline, self.hold(&id)).await.as_deref() {
                Ok(Some(volume)) => look(volume),
                Ok(None) => {}
                Err(_) => busy += 1,
            }
        }
        busy
    }
}

impl Drop for VolumeReservation {
    fn drop(&mut self) {
        let Some(uid) = &self.pod_uid else { return };
        let mut per_pod = self.per_pod.lock().unwrap_or_else(PoisonError::into_inner);
        match per_pod.get_mut(uid) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = per_pod.remove(uid),
        }
    }
}

impl Volume {
    /// A volume with that record on disk, without a renewal yet.
    pub(super) fn recorded(record: Record, reservation: VolumeReservation) -> Self {
        Volume {
            record,
            renew_now: Arc::default(),
            overslept: Arc::default(),
            uninstalled: None,
            asked: Instant::now(),
            unfinished: false,
            is_emptied: false,
            behind: None,
            audited: None,
            renewal: None,
            _reservation: reservation,
        }
    }

    /// Whether the audit log already has this entry; records that it has.
    pub(super) fn is_audited(&mut self, context: &X509Context) -> bool {
        let digest = Some(context.digest());
        let is_audited = self.audited == digest;
        self.audited = digest;
        is_audited
    }

    /// Its record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Whether its renewal is running or not needed.
    pub fn is_kept_fresh(&self) -> bool {
        let as_recorded = |renewal: &RunningRenewal| renewal.spec == self.record.spec && !renewal.task.is_finished();
        match self.record.spec.subject() {
            None => self.renewal.is_none(),
            Some(_) => self.renewal.as_deref().is_some_and(as_recorded),
        }
    }

    /// Whether it is published with an identity, not as a passthrough.
    pub fn has_identity(&self) -> bool {
        self.record.phase == Phase::Ready && self.record.spec.content != Content::Passthrough
    }

    /// Whether its pod has the identity with that digest.
    pub(super) fn holds(&self, digest: Option<&str>) -> bool {
        let is_recorded = |issued: &Issued| issued.digest.as_deref() == digest;
        !self.is_emptied && self.record.issued.as_ref().is_some_and(is_recorded)
    }

    /// Whether it has a renewal, possibly that of a former spec.
    pub fn is_renewed(&self) -> bool {
        self.renewal.is_some()
    }

    /// Why its last renewal failed, if it did.
    pub fn renewal_trouble(&self) -> Option<String> {
        self.renewal.as_ref()?.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the renewal and returns its spec. The volume's lock is held, so nothing is being installed.
    pub fn stop_renewing(&mut self) -> Option<Arc<VolumeSpec>> {
        let RunningRenewal { spec, task, .. } = *self.renewal.take()?;
        task.abort();
        Some(spec)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.stop_renewing();
    }
}

/// The record of the pod's identity, before it is delivered.
pub(super) fn issued(spec: &VolumeSpec, context: &X509Context, jwt: Option<&Jwt>) -> Issued {
    let identity = context.default_svid();
    let is_given = spec.subject().is_some_and(|subject| subject.identity.is_none());
    Issued {
        serial: identity.serial().to_owned(),
        validity: context.held(),
        spiffe_id: is_given.then(|| identity.id().clone().into()),
        bundle_digest: identity.bundle_digest(),
        bundle_text: None,
        digest: Some(context.digest()),
        untrusted: identity.untrusted().map(|rejection| rejection.to_string().into()),
        jwt: jwt.map(Jwt::issued),
    }
}

impl Node {
    /// Changes the record of a volume: first on disk, then in memory, so that a call is never answered from a state
    /// that the next startup would not know. On failure nothing has changed. Blocks.
    pub(in crate::node) fn record(&self, volume: &mut Volume, change: impl FnOnce(&mut Record)) -> Result<(), FsError> {
        let mut record = volume.record.clone();
        change(&mut record);
        let record = self.deliveries.with_bytes(record);
        self.put(&record)?;
        let before = std::mem::replace(&mut volume.record, record).issued;
        self.reports.untrusted(&volume.record, before.as_ref());
        Ok(())
    }

    /// Writes a record to disk. Blocks.
    pub(super) fn put(&self, record: &Record) -> Result<(), FsError> {
        self.deliveries.keep_writable();
        self.store.put(record)
    }

    /// Starts the renewal loop of a ready volume, unless it is already running with the recorded spec or the volume has
    /// no identity.
    pub(super) fn keep_renewing(self: &Arc<Self>, volume: &mut Volume) {
        if volume.is_kept_fresh() {
            return;
        }
        volume.stop_renewing();
        if volume.record.spec.content == Content::Passthrough {
            return;
        }
        let record = &volume.record;
        let trouble = RenewalTrouble::default();
        let signals = RenewalSignals {
            renew_now: volume.renew_now.clone(),
            overslept: volume.overslept.clone(),
            trouble: trouble.clone(),
        };
        let fresh = renewal::keep_fresh(self.clone(), record.spec.clone(), record.issued.clone(), signals);
        let spec = record.spec.clone();
        volume.renewal = Some(Box::new(RunningRenewal { spec, task: self.tasks.detached(fresh), trouble }));
    }

    /// Restores what a healthy volume may have lost: its renewal, or the time for it while the machine slept. Blocks.
    pub(super) fn ensure_renewal_running(self: &Arc<Self>, volume: &mut Volume) -> Result<(), VolumeError> {
        if !volume.is_kept_fresh() {
            return self.serve_again(volume);
        }
        self.ensure_unchanged(volume)?;
        // Its tokens have their own schedule: another check would cancel an attempt in progress.
        let is_due = |issued: &Issued| renew::delay(&issued.validity, clock::now(), LATEST).is_zero();
        let due = volume.record.issued.as_ref().is_some_and(is_due);
        // A waiting volume is already awake, and would lose its turn.
        if due && self.sources.waiting_of(&volume.record.spec.id).is_none() {
            volume.overslept.notify_one();
        }
        self.update_bundle(Some(volume));
        Ok(())
    }
}
