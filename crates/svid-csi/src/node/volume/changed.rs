//! Volumes changed by their pods, or by other processes on the node: detected, reported and restored.

use std::sync::Arc;

use svid_csi_core::files::{FileName, RenderedFile};
use svid_csi_core::state::{FileId, Issued, Record};
use svid_csi_core::volume::{Content, FilesSpec, SocketSpec, VolumeSpec};
use tracing::warn;

use super::Node;
use super::deliver::Deliveries;
use super::error::VolumeError;
use super::registry::Volume;
use crate::delivery::folder_content::{self, FolderContent};
use crate::delivery::volume_folder::VolumeFolder;
use crate::telemetry::report;

impl Deliveries {
    /// The current files of the volume, if new ones may keep a part of them.
    pub(super) fn files_before(
        &self,
        record: &Record,
        folder: &VolumeFolder,
        wanted: &FilesSpec,
        brings_jwt: bool,
    ) -> Result<Vec<RenderedFile>, VolumeError> {
        match folder_content::look(folder)? {
            FolderContent::Files(delivered) if wanted.extras.continue_earlier() => Ok(delivered.files()?),
            FolderContent::Files(_) | FolderContent::Nothing => Ok(Vec::new()),
            FolderContent::Changed(how) => {
                // Before the first delivery of this driver, the files are those of csi-driver-spiffe.
                if record.issued.is_some() {
                    self.reports.changed(&record.spec, &how);
                }
                if wanted.extras.need_jwt() && !brings_jwt { Err(VolumeError::Changed(how)) } else { Ok(Vec::new()) }
            }
        }
    }

    /// The current files of the volume, to be written again with some changes.
    ///
    /// # Errors
    /// [`VolumeError::Changed`] if they are not as delivered.
    pub(super) fn delivered_files(
        &self,
        record: &Record,
        folder: &VolumeFolder,
    ) -> Result<Vec<RenderedFile>, VolumeError> {
        let how = match folder_content::look(folder)? {
            FolderContent::Files(delivered) => return Ok(delivered.files()?),
            FolderContent::Nothing => "its files were removed".to_owned(),
            FolderContent::Changed(how) => how,
        };
        self.reports.changed(&record.spec, &how);
        Err(VolumeError::Changed(how))
    }

    /// Ensures that those names in the folder lead to the volume's socket.
    pub(super) fn put_socket_right(
        &self,
        spec: &Arc<VolumeSpec>,
        socket: &SocketSpec,
        names: &[FileName],
        folder: &VolumeFolder,
    ) -> Result<(), VolumeError> {
        let workload_api = self.workload_api()?;
        let was_changed = workload_api.was_changed(spec, socket, folder)?;
        if was_changed {
            self.reports.changed(spec, "it contains something other than its socket");
        }
        workload_api.serve_if_room(spec, names, folder)?;
        if was_changed { Ok(folder.keep_only(names)?) } else { Ok(()) }
    }

    /// Why a volume does not work for its pod, to which `root` is mounted; `None` if it works.
    pub(in crate::node) fn trouble(&self, record: &Record, root: FileId) -> Option<String> {
        match &record.spec.content {
            Content::Passthrough => match &self.socket_dir {
                Some(socket_dir) => socket_dir.trouble(root),
                None => Some("this driver runs without --workload-api-socket-dir".to_owned()),
            },
            Content::Files(_) => self.trouble_of_files(record),
            Content::WorkloadApi(socket) => self.trouble_of_socket(record, socket),
        }
    }

    fn trouble_of_socket(&self, record: &Record, socket: &SocketSpec) -> Option<String> {
        let id = &record.spec.id;
        let Some(workload_api) = &self.workload_api else {
            return Some("this driver does not serve sockets".to_owned());
        };
        if workload_api.given(id).is_none() {
            return Some("the pod has no identity: it was withdrawn, or could not be kept across a restart".to_owned());
        }
        match self.folder(record).and_then(|folder| Ok(workload_api.serves(id, socket, &folder)?)) {
            Ok(true) => None,
            Ok(false) => Some(
                "the volume's socket was removed or replaced, or something was added beside it; the next publish or a restart \
                 of the driver restores it"
                    .to_owned(),
            ),
            Err(error) => Some(report::chain(&error)),
        }
    }

    fn trouble_of_files(&self, record: &Record) -> Option<String> {
        match self.folder(record).and_then(|folder| Ok(folder_content::look(&folder)?)) {
            Ok(FolderContent::Files(_)) => None,
            Ok(FolderContent::Nothing) => {
                Some("the volume holds no identity: its source withdrew it, or has not issued one yet".to_owned())
            }
            // Volumes of csi-driver-spiffe have another layout.
            Ok(FolderContent::Changed(_)) if record.issued.is_none() => None,
            Ok(FolderContent::Changed(how)) => {
                Some(format!("the volume's files were changed: {how}; the next delivery restores them"))
            }
            Err(error) => Some(report::chain(&error)),
        }
    }
}

impl Node {
    /// Requests the volume's identity again, and delivers it even if it is the same as before.
    pub(super) fn distrust(&self, volume: &mut Volume) {
        if let Some(issued) = volume.record().issued.clone() {
            let remembered = self.record(volume, |record| record.issued = Some(Issued { digest: None, ..issued }));
            remembered.unwrap_or_else(|error| {
                warn!(volume = %volume.record().spec.id, error = report::chain(&error), "cannot restore the changed volume now; it is restored at the next renewal");
            });
        }
        volume.renew_now.notify_one();
    }

    /// Checks whether the volume has the delivered content. Restores a socket, and requests changed files again.
    pub(super) fn ensure_unchanged(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        let spec = volume.record().spec.clone();
        let Some(issued) = &volume.record().issued else { return Ok(()) };
        match &spec.content {
            Content::Passthrough => {}
            Content::WorkloadApi(socket) => {
                let folder = self.deliveries.folder(volume.record())?;
                self.deliveries.put_socket_right(&spec, socket, &socket.sockets, &folder)?;
            }
            // Without a digest, they have already been requested.
            Content::Files(_) if issued.digest.is_some() => {
                let folder = self.deliveries.folder(volume.record())?;
                match self.deliveries.delivered_files(volume.record(), &folder) {
                    Err(VolumeError::Changed(_)) => self.distrust(volume),
                    looked => drop(looked?),
                }
            }
            Content::Files(_) => {}
        }
        Ok(())
    }
}
