//! The folders of volumes on the data tmpfs: what is mounted into pods, whatever is in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use svid_csi_core::files::FileName;
use svid_csi_core::state::FileId;
use svid_csi_core::volume_id::VolumeId;

use super::views;
use crate::data_root::DataRoot;
use crate::fsx::{self, FsError};
use crate::mount::{self, MountError, MountPoint, MountSource};

/// The mode of a folder that a mount of the volume is about to hide.
const MODE: u32 = 0o550;

/// The folders of all volumes that this driver fills.
#[derive(Debug)]
pub struct Folders {
    folders: PathBuf,
    read_only: PathBuf,
}

impl Folders {
    /// Prepares the read-only view that volumes are mounted from.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn open(data: &DataRoot) -> Result<Self, MountError> {
        let read_only = data.tmpfs().join("read-only");
        let folders = data.volumes();
        views::ensure(&MountSource::open(&folders)?, &read_only, true)?;
        Ok(Folders { folders, read_only })
    }

    /// The identity of the volume's folder, when it is there.
    ///
    /// # Errors
    /// [`MountError`] where that cannot be told.
    pub fn root(&self, id: &VolumeId) -> Result<Option<FileId>, MountError> {
        mount::file_id_of(&self.folder(id))
    }

    /// Makes the volume's folder, with that mode, and tells its identity.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn prepare(&self, id: &VolumeId, mode: u32) -> Result<Option<FileId>, MountError> {
        let folder = self.folder(id);
        fsx::ensure_dir(&folder, mode)?;
        mount::file_id_of(&folder)
    }

    /// What is mounted into the pod: the volume's folder, read-only.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn source(&self, id: &VolumeId) -> Result<MountSource, MountError> {
        let (folder, view) = (self.folder(id), self.read_only.join(id.as_str()));
        if mount::is_mount_root(&folder)? {
            // A mount of its own is not seen through the view of all.
            views::ensure(&MountSource::open(&folder)?, &view, true)?;
        }
        MountSource::open(&view)
    }

    /// Removes the folders of volumes that `is_known` does not know: a crash left them before anything was in them.
    /// Answers what could not be removed.
    ///
    /// # Errors
    /// [`FsError`] where they cannot be listed.
    pub fn keep_only(&self, is_known: impl Fn(&VolumeId) -> bool) -> Result<Vec<FsError>, FsError> {
        let mut left = Vec::new();
        for entry in fs::read_dir(&self.folders).map_err(FsError::of("list", &self.folders))? {
            let path = entry.map_err(FsError::of("list", &self.folders))?.path();
            let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| VolumeId::parse(name).ok());
            if !id.is_some_and(|id| is_known(&id)) && matches!(mount::is_mount_root(&path), Ok(false)) {
                left.extend(remove_folder(&path).err().map(|error| FsError { path, ..error }));
            }
        }
        Ok(left)
    }

    /// Makes the data behind a mounted target reachable again after the driver's own mount of it was lost.
    ///
    /// A volume's tmpfs lives on behind its target. The target is a read-only mount, and so is the clone of it, until it
    /// is made writable here: at every start again, because a mount that came with the namespace has its old flags.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn reach(&self, id: &VolumeId, point: &MountPoint) -> Result<(), MountError> {
        let folder = self.folder(id);
        fsx::ensure_dir(&folder, MODE)?;
        let source = point.source()?;
        if self.root(id)? != Some(source.id()) {
            source.attach_at(&folder)?;
        }
        self.unlock(id)
    }

    /// Makes what [`Folders::reach`] has brought writable, also where the target is no longer mounted.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn unlock(&self, id: &VolumeId) -> Result<(), MountError> {
        let folder = self.folder(id);
        if mount::is_mount_root(&folder)? { mount::remount(&folder, false) } else { Ok(()) }
    }

    /// Removes the volume's folder and all that is in it.
    ///
    /// # Errors
    /// [`MountError`] or the file system's.
    pub fn remove(&self, id: &VolumeId) -> Result<(), MountError> {
        let (folder, view) = (self.folder(id), self.read_only.join(id.as_str()));
        if mount::is_mount_root(&view)? {
            mount::unmount(&view)?;
        }
        if mount::is_mount_root(&folder)? {
            mount::remount(&folder, false)?;
            // It cannot be removed as a mount root, and the keys must not linger behind it.
            keep_only(&folder, &[])?;
            mount::unmount(&folder)?;
        }
        Ok(remove_folder(&folder)?)
    }

    /// The volume's folder, to write into.
    pub fn folder(&self, id: &VolumeId) -> PathBuf {
        self.folders.join(id.as_str())
    }
}

/// Removes a folder, if it is there.
pub(super) fn remove_folder(folder: &Path) -> Result<(), FsError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FsError::of("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Removes all that is in a volume's folder but what has one of these names.
///
/// # Errors
/// [`FsError`].
pub fn keep_only(folder: &Path, names: &[FileName]) -> Result<(), FsError> {
    for entry in fs::read_dir(folder).map_err(FsError::of("list", folder))? {
        let path = entry.map_err(FsError::of("list", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let metadata = path.symlink_metadata().map_err(FsError::of("look at", &path))?;
        match metadata.is_dir() {
            _ if names.iter().any(|kept| kept.as_str() == name) => {}
            true => remove_folder(&path)?,
            false => fsx::remove_file(&path)?,
        }
    }
    Ok(())
}
