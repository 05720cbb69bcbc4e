//! Unpublishing: the publish steps in reverse.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::plan::Plan;
use svid_csi_core::state::{Phase, Record};
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::Content;
use svid_csi_core::volume_id::VolumeId;
use tracing::{info, warn};

use super::Node;
use super::error::VolumeError;
use super::mount::may_show_agent;
use super::registry::{Held, Volume};
use crate::host::mount::{self, MountError, MountPoint};
use crate::tasks::blocking;
use crate::telemetry::report;

/// How long to wait for the file system of the agent's directory.
const PATIENCE: Duration = Duration::from_secs(10);

impl Node {
    /// Unpublishes a volume. One that was never published is not an error.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub async fn unpublish(
        self: &Arc<Self>,
        driver: &str,
        id: VolumeId,
        target: TargetPath,
    ) -> Result<(), VolumeError> {
        let held = self.hold(&id).await?;
        let (node, driver) = (self.clone(), driver.to_owned());
        let may_show_agent = may_show_agent(held.as_ref().map(Volume::record));
        let remove = move || {
            let mut held = held;
            node.remove(&driver, &id, &target, &mut held)
        };
        self.at_target(may_show_agent, PATIENCE, remove).await
    }

    /// The plan of a volume, if there is one.
    pub async fn plan_of(&self, id: &VolumeId) -> Option<Plan> {
        Some(self.volumes.hold(id).await.as_ref()?.record().spec.plan())
    }

    /// The path at which the volume with that id is recorded, if `target` leads there, also by another name of the pods
    /// folder.
    ///
    /// # Errors
    /// [`VolumeError::Begun`] if that cannot be determined.
    pub async fn recorded_at(
        self: &Arc<Self>,
        id: &VolumeId,
        target: &TargetPath,
    ) -> Result<Option<TargetPath>, VolumeError> {
        let held = self.hold(id).await?;
        let Some(recorded) = held.as_ref().map(|volume| volume.record().spec.target.clone()) else { return Ok(None) };
        if recorded == *target {
            return Ok(Some(recorded));
        }
        let target = target.clone();
        let look = move || {
            let (Some(one), Some(other)) = (recorded.place(), target.place()) else { return Ok(None) };
            let is_same = (one.pod_uid, one.volume_name) == (other.pod_uid, other.volume_name)
                && mount::are_one_folder(one.pods_dir, other.pods_dir)?;
            Ok(is_same.then(|| recorded.clone()))
        };
        blocking(look).await?.map_err(|error: MountError| VolumeError::from(error).begun())
    }

    /// The publish steps in reverse. Blocks; the volume's lock is held.
    pub(in crate::node) fn remove(
        &self,
        driver: &str,
        id: &VolumeId,
        target: &TargetPath,
        held: &mut Held,
    ) -> Result<(), VolumeError> {
        if held.as_ref().is_some_and(|volume| volume.record().spec.target != *target) {
            return Ok(());
        }
        let point = match MountPoint::open(target) {
            Err(MountError::NoParent(_)) => None,
            opened => Some(opened?),
        };
        self.deliveries.keep_writable();
        // A startup that finds the mount missing restores it until the kubelet retries, which does no harm; but a
        // partly removed folder must not be used again.
        if let Some(volume) = held.as_mut().filter(|volume| volume.record().spec.content != Content::Passthrough) {
            volume.stop_renewing();
            self.record(volume, |record| record.phase = Phase::Removing).unwrap_or_else(|error| {
                // A full disk must not prevent a pod from ending.
                warn!(volume = %id, error = report::chain(&error), "cannot record the removal of a volume in advance");
            });
        }
        if let Some(point) = &point {
            let record = held.as_ref().map(Volume::record);
            let passes_through =
                |record: &Record| record.spec.content == Content::Passthrough && record.formerly.is_none();
            let passes_through = record.is_some_and(passes_through);
            point.detach_while(
                |root| self.deliveries.is_ours(driver, id, record, point, root),
                |root| Ok(passes_through || self.deliveries.may_stay_in_use(id, root)?),
            )?;
        }
        let spec = held.as_ref().map(|volume| volume.record().spec.clone());
        let filled = held.as_ref().and_then(|volume| volume.record().filled());
        let remove_data = || self.deliveries.remove_data(id, filled);
        match &spec {
            Some(spec) => self.deliveries.removing(spec, false, remove_data)?,
            None => remove_data()?,
        }
        if let Some(point) = &point {
            point.remove(|name| spec.as_ref().is_some_and(|spec| spec.shows(name)))?;
        }
        let own = self.deliveries.remove_own_directory(id);
        self.store.remove(id)?;
        self.is_no_longer_unread(id);
        if let Some(mut volume) = held.take() {
            volume.stop_renewing();
            self.is_unfinished(&mut volume, false);
            self.sources.forget_everywhere(&volume.record().spec);
            info!(volume = %id, "volume unpublished");
        }
        self.retry_own_directory(id, own);
        Ok(())
    }

    /// It holds no secret, and must not prevent a pod from ending.
    fn retry_own_directory(&self, id: &VolumeId, removed: Result<(), VolumeError>) {
        if let Err(error) = removed {
            warn!(volume = %id, error = report::chain(&error), "cannot remove a pod's links to the agent's sockets; retrying");
            self.later.again(id.clone(), 1);
        }
    }
}
