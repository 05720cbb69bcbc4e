//! What volumes still hold after a restart of the driver.

use svid_csi_core::state::Record;
use svid_csi_core::volume::Content;
use svid_csi_core::volume_id::VolumeId;

use super::deliver::Deliveries;
use super::error::VolumeError;
use crate::delivery::files;
use crate::delivery::folder_content::{self, FolderContent};
use crate::host::fsx::FsError;

/// What a volume holds at startup.
pub(super) enum Restored {
    /// What its record says.
    Delivered,
    /// No identity.
    Nothing,
    /// Something else.
    Changed,
}

impl Deliveries {
    /// At startup: restores the links of a volume's files, or serves the stored identity of a socket again.
    pub(super) fn restore(&self, record: &Record) -> Result<Restored, VolumeError> {
        let spec = &record.spec;
        Ok(match &spec.content {
            Content::Passthrough => Restored::Delivered,
            Content::Files(_) => {
                let folder = self.folder(record)?;
                match folder_content::look_and_seal(&folder)? {
                    FolderContent::Files(_) => {
                        // The previous run may not have been able to.
                        files::remove_former(&folder)?;
                        Restored::Delivered
                    }
                    FolderContent::Nothing => {
                        // A withdrawal that could not be recorded may have been interrupted: the folder may still contain the key.
                        files::take_away(&folder)?;
                        Restored::Nothing
                    }
                    FolderContent::Changed(how) => {
                        self.reports.changed(spec, &how);
                        Restored::Changed
                    }
                }
            }
            Content::WorkloadApi(socket) => {
                let workload_api = self.workload_api()?;
                let folder = self.folder(record)?;
                workload_api.serve(spec, &socket.sockets, &folder)?;
                let is_kept = workload_api.give_kept(&spec.id)?;
                folder.keep_only(&socket.sockets)?;
                if is_kept { Restored::Delivered } else { Restored::Nothing }
            }
        })
    }

    /// Removes the data of unknown volumes. Returns what could not be removed.
    pub(super) fn keep_only(&self, is_known: impl Fn(&VolumeId) -> bool) -> Result<Vec<FsError>, FsError> {
        let mut left = Vec::new();
        if let Some(folders) = &self.folders {
            left.extend(folders.keep_only(&is_known)?);
        }
        if let Some(passwords) = &self.passwords {
            left.extend(passwords.keep_only(&is_known)?);
        }
        if let Some(workload_api) = &self.workload_api {
            left.extend(workload_api.keep_only(&is_known)?);
        }
        if let Some(socket_dir) = &self.socket_dir {
            left.extend(socket_dir.keep_only(&is_known));
        }
        Ok(left)
    }
}
