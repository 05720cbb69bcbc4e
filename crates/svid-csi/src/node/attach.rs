//! Volumes at their targets: whose mount it is, and making it the right one.

use svid_csi_core::state::{FileId, Phase, Record};
use svid_csi_core::volume_id::VolumeId;

use super::Node;
use super::error::VolumeError;
use super::volume::Volume;
use crate::mount::{Look, MountPoint, MountSource};

impl Node {
    /// Makes the target show `source` and nothing else of ours.
    pub(super) fn mount(
        &self,
        volume: &mut Volume,
        point: &MountPoint,
        source: &MountSource,
    ) -> Result<(), VolumeError> {
        match point.look()? {
            Look::Mounted(root) if root == source.id() => {}
            look => {
                if matches!(look, Look::Mounted(_)) {
                    let record = &volume.record;
                    point.detach_while(|root| {
                        self.is_ours(&record.driver, &record.spec.id, Some(record), point, root)
                    })?;
                }
                if volume.record.root != Some(source.id()) {
                    volume.record.root = Some(source.id());
                    self.store.put(&volume.record)?;
                }
                if look == Look::Missing {
                    point.create(volume.record.spec.target_mode())?;
                }
                point.attach(source)?;
            }
        }
        Ok(())
    }

    /// Sees to it that the data behind a mounted target can be written, where the volume is one that
    /// this driver fills and was published before. False when there is no such mount.
    pub(super) fn reach(&self, volume: &Volume, point: &MountPoint) -> Result<bool, VolumeError> {
        let (record, id) = (&volume.record, &volume.record.spec.id);
        let Look::Mounted(root) = point.look()? else { return Ok(false) };
        let folders = self.folders()?;
        let in_reach = folders.root(id) == Some(root);
        if !in_reach && (record.root != Some(root) || (record.issued.is_none() && record.phase != Phase::Ready)) {
            return Ok(false);
        }
        folders.reach(id, point)?;
        Ok(true)
    }

    /// Whether a mount at a volume's target was made by this driver, an earlier run of it, or its predecessor.
    pub(super) fn is_ours(
        &self,
        driver: &str,
        id: &VolumeId,
        record: Option<&Record>,
        point: &MountPoint,
        root: FileId,
    ) -> bool {
        let recorded = record.and_then(|record| record.root) == Some(root);
        let of_folder = self.folders.as_ref().and_then(|folders| folders.root(id)) == Some(root);
        let of_agent = self.socket_dir.as_ref().is_some_and(|socket_dir| socket_dir.is_current(root));
        let never_ready = record.is_none_or(|record| record.phase == Phase::Intended);
        recorded || of_folder || of_agent || (never_ready && kubelet_vouches(driver, id, point))
    }
}

/// Whether the kubelet's own note beside the target (vol_data.json) says that the volume is this driver's. Asked only
/// where no record of a published volume is, as for volumes a predecessor published.
pub(super) fn kubelet_vouches(driver: &str, id: &VolumeId, point: &MountPoint) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct VolData {
        driver_name: String,
        volume_handle: String,
    }
    let note = point.read_beside("vol_data.json").and_then(|json| serde_json::from_slice::<VolData>(&json).ok());
    note.is_some_and(|note| note.driver_name == driver && note.volume_handle == id.as_str())
}
