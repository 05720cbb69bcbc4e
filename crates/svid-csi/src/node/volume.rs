//! The volumes of this node, in memory, and the loop that renews one of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use svid_csi_core::files::render;
use svid_csi_core::identity::{Candidate, Expected, Identity, accept};
use svid_csi_core::state::{Issued, Phase, Record};
use svid_csi_core::volume::{Content, FilesSpec, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tracing::{error, info};

use super::Node;
use super::error::VolumeError;
use crate::{clock, report, source};

/// A volume that this driver looks after.
#[derive(Debug)]
pub struct Volume {
    /// What is remembered of it.
    pub record: Record,
    /// Told to renew now.
    pub renew_now: Arc<Notify>,
    /// Counts the publish calls, so that a volume that nobody asks for any more is noticed.
    pub attempts: u64,
    renewal: Option<AbortHandle>,
}

/// The place of one volume; its lock is held while anything is done to the volume.
pub type Slot = Arc<tokio::sync::Mutex<Option<Volume>>>;
/// A held lock. Owned, so that blocking work keeps it even if the call that started the work is gone.
pub type Held = OwnedMutexGuard<Option<Volume>>;

/// All volumes by id.
#[derive(Debug, Default)]
pub struct Volumes(Mutex<HashMap<VolumeId, Slot>>);

impl Volumes {
    /// The place of a volume, made where there was none.
    pub fn slot(&self, id: &VolumeId) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(id) {
            return slot.clone();
        }
        slots.entry(id.clone()).or_default().clone()
    }

    /// Takes the lock of a volume.
    pub async fn hold(&self, id: &VolumeId) -> Held {
        self.slot(id).lock_owned().await
    }

    /// Gives a lock back and forgets the place if nothing is in it and nobody else waits for it.
    pub fn release(&self, id: &VolumeId, held: Held) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = held.is_none();
        drop(held);
        if empty && slots.get(id).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(id);
        }
    }

    /// All places, to look at one after the other.
    pub fn all(&self) -> Vec<Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Volume {
    /// A volume that is not renewed (yet).
    pub fn new(record: Record) -> Self {
        Volume { record, renew_now: Arc::default(), attempts: 0, renewal: None }
    }

    /// Whether nothing has to be started for the volume to stay fresh.
    pub fn is_kept_fresh(&self) -> bool {
        let renewing = self.renewal.as_ref().is_some_and(|renewal| !renewal.is_finished());
        renewing || self.record.spec.content == Content::Passthrough
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(renewal) = self.renewal.take() {
            renewal.abort();
        }
    }
}

/// Validates what a source gave; all or nothing.
pub(super) async fn accepted(files: &FilesSpec, candidate: Candidate) -> Result<Identity, VolumeError> {
    let expected = Expected { id: files.identity.clone(), now: clock::now() };
    Ok(tokio::task::spawn_blocking(move || accept(candidate, &expected)).await??)
}

/// What is remembered of an identity.
pub(super) fn issued(identity: &Identity) -> Issued {
    Issued { serial: identity.serial().to_owned(), validity: identity.held(), bundle_digest: identity.bundle_digest() }
}

impl Node {
    /// Starts the loop that keeps a ready volume's identity fresh, unless it runs already or the volume has none.
    pub(super) fn keep_renewing(self: &Arc<Self>, volume: &mut Volume) {
        let Content::Files(_) = &volume.record.spec.content else { return };
        if volume.is_kept_fresh() {
            return;
        }
        let renewal =
            renew(self.clone(), volume.record.spec.clone(), volume.record.issued.clone(), volume.renew_now.clone());
        volume.renewal = Some(self.tasks.detached(renewal));
    }
}

async fn renew(node: Arc<Node>, spec: VolumeSpec, mut last: Option<Issued>, renew_now: Arc<Notify>) {
    let Content::Files(files) = &spec.content else { return };
    let mut failures = 0;
    loop {
        let validity = last.as_ref().map(|issued| issued.validity);
        let due = validity.as_ref().filter(|_| failures == 0);
        let next = tokio::select! {
            next = node.sources.next(files, due) => next,
            () = renew_now.notified() => node.sources.next(files, None).await,
        };
        let renewed = match next {
            Ok(candidate) => renew_once(&node, &spec, files, candidate).await,
            Err(error) => Err(error.into()),
        };
        match renewed {
            Ok(Some(issued)) => {
                failures = 0;
                last = Some(issued);
            }
            Ok(None) => return,
            Err(error) => {
                failures += 1;
                node.metrics.renewal_failed();
                complain(&spec, &error, failures);
                tokio::time::sleep(source::retry_delay(failures, validity.as_ref())).await;
            }
        }
    }
}

/// Says the first failure, then the second, fourth, eighth and so on.
fn complain(spec: &VolumeSpec, error: &VolumeError, failures: u32) {
    if failures.is_power_of_two() {
        error!(
            volume = %spec.id, pod = spec.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)), failures,
            error = report::chain(error), "renewal failed; the volume keeps its last identity"
        );
    }
}

/// Installs a renewed identity. `None` when the volume is no longer published.
async fn renew_once(
    node: &Arc<Node>,
    spec: &VolumeSpec,
    files: &FilesSpec,
    candidate: Candidate,
) -> Result<Option<Issued>, VolumeError> {
    let identity = accepted(files, candidate).await?;
    let mut held = node.volumes.hold(&spec.id).await;
    let (this, names, group) = (node.clone(), files.names.clone(), files.fs_group);
    tokio::task::spawn_blocking(move || {
        let Some(volume) = held.as_mut().filter(|volume| volume.record.phase == Phase::Ready) else { return Ok(None) };
        let id = &volume.record.spec.id;
        this.files()?.install(id, &render(&identity, &names), group, clock::now())?;
        let issued = issued(&identity);
        volume.record.issued = Some(issued.clone());
        this.store.put(&volume.record)?;
        this.audit(volume, &identity);
        Ok(Some(issued))
    })
    .await?
}

impl Node {
    /// One line for every identity handed to a pod.
    pub(super) fn audit(&self, volume: &Volume, identity: &Identity) {
        let pod = volume.record.spec.pod.as_ref();
        self.metrics.issued();
        info!(
            target: "svid_csi::audit",
            pod_uid = pod.map(|pod| pod.uid.as_str()),
            pod = pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            spiffe_id = %identity.id(),
            serial = identity.serial(),
            not_after = report::rfc3339(identity.validity().not_after),
            source = %volume.record.spec.plan().source(),
            "identity issued"
        );
    }
}
