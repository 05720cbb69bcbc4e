//! Volumes at their targets: identifying a mount, and replacing it if necessary.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::state::{FileId, Phase, Record};
use svid_csi_core::volume::{Content, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use tracing::info_span;

use super::Node;
use super::deliver::Deliveries;
use super::error::VolumeError;
use super::registry::Volume;
use crate::host::mount::{MountError, MountPoint, MountSource, MountState, Tree};
use crate::tasks::blocking;
use crate::telemetry::log::SPANS;

/// Whether the agent's directory may be mounted at the target of a volume, so that looking there depends on its file system.
pub(super) fn may_show_agent(record: Option<&Record>) -> bool {
    record.is_none_or(|record| {
        record.spec.content == Content::Passthrough || (record.formerly.is_some() && !record.formerly_filled)
    })
}

impl Node {
    /// Does work that blocks at a volume's target. Where the agent's directory may be mounted, it is one of the looks at that,
    /// because its file system may hang, and it must end within `patience`.
    pub(super) async fn at_target<T: Send + 'static>(
        &self,
        may_show_agent: bool,
        patience: Duration,
        work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        match self.deliveries.socket_dir.as_ref().filter(|_| may_show_agent) {
            None => blocking(work).await?,
            Some(socket_dir) => socket_dir.look_within(patience, move |_| work()).await?,
        }
    }

    /// Mounts `source` at the target, and unmounts other mounts of ours, for the volume described by `spec`. Steps that
    /// may fail come before steps that remove something; if mounting fails nevertheless, the former mount is restored.
    pub(in crate::node) fn mount(
        &self,
        volume: &mut Volume,
        point: &MountPoint,
        source: &MountSource,
        spec: &Arc<VolumeSpec>,
    ) -> Result<(), VolumeError> {
        let _span = info_span!(target: SPANS, "mount").entered();
        let (state, root) = (point.look()?, Some(source.id()));
        let is_shown = state == MountState::Mounted(source.id()) && point.is_read_only()? == source.is_read_only()?;
        let former = match state {
            MountState::Mounted(_) if !is_shown => Some(point.source()?.tree()?),
            _ => None,
        };
        let tree = source.tree()?;
        let before = volume.record().clone();
        if before.root != root || before.spec != *spec {
            let mounted = state.mounted();
            self.record(volume, |record| record.show(root, spec.clone(), mounted))?;
        }
        if is_shown {
            return Ok(());
        }
        let replaced = self.replace(volume.record(), point, state, tree, spec);
        if replaced.is_err() {
            if let (Ok(MountState::Folder), Some(former)) = (point.look(), former) {
                // If this fails too, the kubelet's next publish mounts something.
                let _ = point.attach(former);
            }
            // The pod still has the former mount, which must be renewed. If this fails, the record has both roots.
            if *volume.record() != before && point.look().is_ok_and(|now| now == state) {
                let _ = self.record(volume, |record| *record = before);
            }
        }
        replaced
    }

    fn replace(
        &self,
        record: &Record,
        point: &MountPoint,
        state: MountState,
        tree: Tree,
        spec: &VolumeSpec,
    ) -> Result<(), VolumeError> {
        match state {
            MountState::Mounted(_) => {
                let is_ours = |root| self.deliveries.is_ours(&record.driver, &spec.id, Some(record), point, root);
                point.detach_while(is_ours, |_| Ok(false))?;
            }
            MountState::Missing => point.create(spec.target_mode())?,
            MountState::Folder | MountState::NotAFolder => {}
        }
        Ok(point.attach(tree)?)
    }
}

impl Deliveries {
    /// Ensures that the files of a volume can be written, if this driver writes them. Returns true if it is mounted at
    /// the target, and was published before.
    pub(super) fn reach(&self, record: &Record, point: &MountPoint) -> Result<bool, VolumeError> {
        let id = &record.spec.id;
        let folders = self.folders()?;
        folders.unlock(id)?;
        let root = match point.look()? {
            // The mount is the agent's, whatever plan the volume is about to get.
            MountState::Mounted(root) if record.spec.content != Content::Passthrough => root,
            _ => return Ok(false),
        };
        let was_given = record.issued.is_some() || record.phase == Phase::Ready;
        if folders.root(id)? != Some(root) && (record.root != Some(root) || !was_given) {
            return Ok(false);
        }
        folders.reach(id, point)?;
        Ok(true)
    }

    /// Whether no secret remains accessible after this mount is detached from a volume's target, even for processes
    /// that use it: it is the volume's folder, which is emptied, or the agent's directory.
    pub(super) fn may_stay_in_use(&self, id: &VolumeId, root: FileId) -> Result<bool, MountError> {
        Ok(self.is_folder(id, root)? || self.is_agents(root)?)
    }

    /// Whether a mount at a volume's target was made by this driver, an earlier run of it, or its predecessor.
    pub(super) fn is_ours(
        &self,
        driver: &str,
        id: &VolumeId,
        record: Option<&Record>,
        point: &MountPoint,
        root: FileId,
    ) -> Result<bool, MountError> {
        let recorded = record.is_some_and(|record| [record.root, record.formerly].contains(&Some(root)));
        let never_ready = record.is_none_or(|record| record.phase == Phase::Intended);
        Ok(recorded
            || self.is_folder(id, root)?
            || self.is_agents(root)?
            || (never_ready && kubelet_vouches(driver, id, point)?))
    }

    /// Whether the target has the recorded mount at startup.
    pub(super) fn is_recorded(&self, record: &Record, root: FileId) -> Result<bool, MountError> {
        let passes_through = record.spec.content == Content::Passthrough;
        Ok([record.root, record.formerly].contains(&Some(root))
            || self.is_folder(&record.spec.id, root)?
            || (passes_through && self.is_agents(root)?))
    }

    fn is_folder(&self, id: &VolumeId, root: FileId) -> Result<bool, MountError> {
        let of_folder = self.folders.as_ref().map_or(Ok(None), |folders| folders.root(id))?;
        Ok(of_folder == Some(root))
    }

    pub(super) fn is_agents(&self, root: FileId) -> Result<bool, MountError> {
        self.socket_dir.as_ref().map_or(Ok(false), |socket_dir| socket_dir.is_current(root))
    }

    /// Whether the volume's folder is a mount of the data behind its target, which a pod may use.
    pub(super) fn is_reached(&self, id: &VolumeId) -> Result<bool, MountError> {
        self.folders.as_ref().map_or(Ok(false), |folders| folders.is_mounted(id))
    }

    /// Removes the directory with the agent's sockets that a volume has of its own, if it has one. Until then, a mount of
    /// it may be in use.
    pub(super) fn remove_own_directory(&self, id: &VolumeId) -> Result<(), VolumeError> {
        Ok(self.socket_dir.as_ref().map_or(Ok(()), |socket_dir| socket_dir.remove(id))?)
    }

    /// Removes everything of a volume without a record.
    pub(super) fn remove_all(&self, id: &VolumeId) -> Result<(), VolumeError> {
        if let Some(socket_dir) = &self.socket_dir {
            socket_dir.remove_unused(id)?;
        }
        self.remove_data(id, None)
    }

    /// Removes a volume's data other than its record: folder, stored identity, password. `filled` is the mount of the
    /// pod, if this driver wrote its files.
    pub(super) fn remove_data(&self, id: &VolumeId, filled: Option<FileId>) -> Result<(), VolumeError> {
        if let Some(workload_api) = &self.workload_api {
            workload_api.remove(id)?;
        }
        if let Some(folders) = &self.folders {
            folders.remove(id, filled)?;
        }
        if let Some(passwords) = &self.passwords {
            passwords.remove(id)?;
        }
        Ok(())
    }
}

/// Whether the kubelet's own note beside the target (vol_data.json) names this driver. Used only if there is no record
/// of a published volume, as for volumes of a predecessor.
pub(super) fn kubelet_vouches(driver: &str, id: &VolumeId, point: &MountPoint) -> Result<bool, MountError> {
    Ok(point.read_beside("vol_data.json")?.is_some_and(|json| names_volume(&json, driver, id)))
}

/// Whether such a file is about that volume of that driver.
pub fn names_volume(json: &[u8], driver: &str, id: &VolumeId) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct VolData {
        driver_name: String,
        volume_handle: String,
    }
    let note = serde_json::from_slice::<VolData>(json);
    note.is_ok_and(|note| note.driver_name == driver && note.volume_handle == id.as_str())
}
