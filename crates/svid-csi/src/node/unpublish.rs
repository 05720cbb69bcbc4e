//! Unpublish: the publish steps backwards. And the end of volumes that nobody asks for any more.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::state::Phase;
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::Content;
use svid_csi_core::volume_id::VolumeId;
use tracing::{info, warn};

use super::Node;
use super::error::VolumeError;
use super::volume::Held;
use crate::mount::{MountError, MountPoint};
use crate::report;

/// A volume that never became ready is dropped when nobody has asked for it for so long.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

impl Node {
    /// Unpublishes a volume. One that was never published is fine.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub async fn unpublish(
        self: &Arc<Self>,
        driver: &str,
        id: VolumeId,
        target: TargetPath,
    ) -> Result<(), VolumeError> {
        let held = self.volumes.hold(&id).await;
        let (node, driver) = (self.clone(), driver.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut held = held;
            let removed = node.remove(&driver, &id, &target, &mut held);
            node.volumes.release(&id, held);
            removed
        })
        .await?
    }

    /// Whether a volume of that id is recorded at that path.
    pub async fn knows(&self, id: &VolumeId, target: &TargetPath) -> bool {
        let held = self.volumes.hold(id).await;
        let known = held.as_ref().is_some_and(|volume| volume.record.spec.target == *target);
        self.volumes.release(id, held);
        known
    }

    /// The publish steps backwards. Blocks; the volume's lock is held.
    pub(super) fn remove(
        &self,
        driver: &str,
        id: &VolumeId,
        target: &TargetPath,
        held: &mut Held,
    ) -> Result<(), VolumeError> {
        if held.as_ref().is_some_and(|volume| volume.record.spec.target != *target) {
            return Ok(());
        }
        let point = match MountPoint::open(target) {
            Err(MountError::NoParent(_)) => None,
            opened => Some(opened?),
        };
        // A start that finds a mount taken down puts it back until the kubelet asks again, which does no harm; a folder
        // that is half removed must not come back.
        if let Some(volume) = held.as_mut().filter(|volume| volume.record.spec.content != Content::Passthrough) {
            volume.record.phase = Phase::Removing;
            self.store.put(&volume.record).unwrap_or_else(|error| {
                // A full disk must not keep a pod from ending.
                warn!(volume = %id, error = report::chain(&error), "the removal could not be recorded beforehand");
            });
        }
        if let Some(point) = &point {
            let record = held.as_ref().map(|volume| &volume.record);
            point.detach_while(|root| self.is_ours(driver, id, record, point, root))?;
        }
        if let Some(workload_api) = &self.workload_api {
            workload_api.remove(id)?;
        }
        if let Some(folders) = &self.folders {
            folders.remove(id)?;
        }
        if let Some(passwords) = &self.passwords {
            passwords.remove(id)?;
        }
        if let Some(point) = &point {
            let spec = held.as_ref().map(|volume| volume.record.spec.clone());
            point.remove(|name| spec.as_ref().is_some_and(|spec| spec.shows(name)))?;
        }
        self.store.remove(id)?;
        if let Some(mut volume) = held.take() {
            volume.stop_renewing();
            self.sources.forget(&volume.record.spec);
            info!(volume = %id, "volume unpublished");
        }
        Ok(())
    }

    /// Drops a volume in the end unless it is ready by then, or asked for again: the kubelet does not unpublish what it
    /// never saw published.
    pub(super) fn forget_later(self: &Arc<Self>, id: VolumeId) {
        let node = self.clone();
        self.tasks.detached(async move {
            let attempts = node.volumes.hold(&id).await.as_ref().map(|volume| volume.attempts);
            tokio::time::sleep(FORGOTTEN_AFTER).await;
            node.forget(&id, attempts).await;
        });
    }

    async fn forget(self: Arc<Self>, id: &VolumeId, attempts: Option<u64>) {
        let held = self.volumes.hold(id).await;
        let stale =
            held.as_ref().filter(|volume| volume.record.phase != Phase::Ready && Some(volume.attempts) == attempts);
        let Some((driver, target)) =
            stale.map(|volume| (volume.record.driver.clone(), volume.record.spec.target.clone()))
        else {
            return self.volumes.release(id, held);
        };
        let (node, id) = (self.clone(), id.clone());
        let forgotten = tokio::task::spawn_blocking(move || {
            let mut held = held;
            warn!(volume = %id, "nobody asked for this volume again; it is dropped");
            if let Err(error) = node.remove(&driver, &id, &target, &mut held) {
                warn!(volume = %id, error = report::chain(&error), "the volume could not be dropped; this is tried again");
                node.forget_later(id.clone());
            }
            node.volumes.release(&id, held);
        });
        let _ = forgotten.await;
    }
}
