//! The folders of volumes on the data tmpfs, which are mounted into pods with any delivery.

use std::io;
use std::path::PathBuf;

use svid_csi_core::state::FileId;
use svid_csi_core::volume_id::VolumeId;
use tracing::warn;

use super::private_bind;
use super::volume_folder::VolumeFolder;
use crate::host::beneath::Folder;
use crate::host::data_root::DataRoot;
use crate::host::fsx::{self, FsError};
use crate::host::mount::{self, MountError, MountPoint, MountSource, TmpfsLimits};
use crate::host::seal::{self, Sealing};

/// The mode of a folder that is about to be hidden by a mount of the volume.
const MODE: u32 = 0o550;

/// The folders of all volumes whose content this driver writes.
#[derive(Debug)]
pub struct VolumeFolders {
    folders: Folder,
    device: u64,
    path: PathBuf,
    read_only: PathBuf,
    limits: TmpfsLimits,
}

impl VolumeFolders {
    /// Prepares the read-only view from which volumes are mounted, and determines whether volumes can be sealed.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn open(data: &DataRoot) -> Result<Self, MountError> {
        let read_only = data.tmpfs().join("read-only");
        let path = data.volumes();
        private_bind::ensure(&MountSource::open(&path)?, &read_only)?;
        let folders = Folder::open(&path, false)?;
        let seals = can_seal(&folders)?;
        if !seals {
            warn!(
                path = %path.display(),
                "volumes cannot be sealed against their pods (needs CAP_LINUX_IMMUTABLE, Linux 6.0, and no user namespace): \
                 those without readOnly: true are refused"
            );
        }
        let device = mount::file_id(&folders.stat_self()?).device;
        Ok(VolumeFolders { folders: folders.sealing(seals), device, path, read_only, limits: data.limits() })
    }

    /// Whether volumes are sealed against their pods.
    pub fn seals(&self) -> bool {
        self.folders.seals()
    }

    /// The identity of the volume's folder, if it exists.
    ///
    /// # Errors
    /// [`MountError`] if that cannot be determined.
    pub fn root(&self, id: &VolumeId) -> Result<Option<FileId>, MountError> {
        mount::file_id_of(&self.path(id))
    }

    /// Creates the volume's folder with that mode, and returns its identity. Something mounted over it that is not
    /// `recorded` is unmounted.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn prepare(&self, id: &VolumeId, mode: u32, recorded: Option<FileId>) -> Result<Option<FileId>, MountError> {
        let path = self.path(id);
        if mount::is_mount_root(&path)? && self.root(id)? != recorded {
            mount::unmount(&path)?;
        }
        fsx::ensure_dir(&path, mode)?;
        self.root(id)
    }

    /// The volume's folder, for writing: it is on the data tmpfs, or is the recorded mount of a volume whose files this
    /// driver writes.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn open_volume(&self, id: &VolumeId, recorded: Option<FileId>) -> Result<VolumeFolder, MountError> {
        let folder = VolumeFolder::open(&self.folders, id.as_str(), self.device, recorded)?;
        // A tmpfs of an earlier run, of which a pod of that time may have a mount.
        let path = self.path(id);
        if mount::file_id(&folder.seen().stat_self()?).device != self.device
            && mount::is_restricted(&path, self.limits)?
        {
            mount::make_writable(&path, self.limits)?;
        }
        Ok(folder)
    }

    /// The source of the pod's mount: the volume's folder, read-only.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn source(&self, id: &VolumeId) -> Result<MountSource, MountError> {
        let (folder, view) = (self.path(id), self.read_only.join(id.as_str()));
        if mount::is_mount_root(&folder)? {
            // If the folder has a mount of its own, that is not visible through the view of all.
            private_bind::ensure(&MountSource::open(&folder)?, &view)?;
        }
        MountSource::open(&view)
    }

    /// Removes the folders of volumes for which `is_known` returns false, which a crash left empty. Returns those that
    /// could not be removed.
    ///
    /// # Errors
    /// [`FsError`] if they cannot be listed.
    pub fn keep_only(&self, is_known: impl Fn(&VolumeId) -> bool) -> Result<Vec<FsError>, FsError> {
        let mut left = Vec::new();
        for name in self.folders.names()? {
            let id = name.to_str().and_then(|name| VolumeId::parse(name).ok());
            let path = self.path.join(&name);
            if id.is_some_and(|id| is_known(&id)) {
                continue;
            }
            let removed = match mount::is_mount_root(&path) {
                Ok(true) => Ok(()),
                Ok(false) => self.folders.remove(&name),
                Err(error) => Err(FsError::of("look for a mount over", &path)(io::Error::other(error))),
            };
            left.extend(removed.err().map(|error| FsError { path, ..error }));
        }
        Ok(left)
    }

    /// Makes the data behind a mounted target accessible again after the driver's own mount of it was lost.
    ///
    /// A volume's tmpfs continues to exist behind its target. The target is a read-only mount, as is its clone until it
    /// is made writable here. This is done at every startup, because a mount that came with the namespace has its old
    /// flags.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn reach(&self, id: &VolumeId, point: &MountPoint) -> Result<(), MountError> {
        let folder = self.path(id);
        fsx::ensure_dir(&folder, MODE)?;
        let source = point.source()?;
        if self.root(id)? != Some(source.id()) {
            source.attach_at(&folder)?;
        }
        self.unlock(id)
    }

    /// Makes the folder prepared by [`VolumeFolders::reach`] writable, even if the target is no longer mounted.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn unlock(&self, id: &VolumeId) -> Result<(), MountError> {
        let folder = self.path(id);
        if mount::is_mount_root(&folder)? { mount::make_writable(&folder, self.limits) } else { Ok(()) }
    }

    /// Removes the volume's folder with its content. A folder mounted over it is emptied only if it is the recorded
    /// mount of a volume whose files this driver writes.
    ///
    /// # Errors
    /// [`MountError`] or the file system's.
    pub fn remove(&self, id: &VolumeId, recorded: Option<FileId>) -> Result<(), MountError> {
        let (path, view) = (self.path(id), self.read_only.join(id.as_str()));
        if mount::is_mount_root(&view)? {
            mount::unmount(&view)?;
        }
        if mount::is_mount_root(&path)? {
            if recorded.is_some() && self.root(id)? == recorded {
                mount::make_writable(&path, self.limits)?;
                // As the root of a mount it cannot be removed, but the keys in it must not remain.
                self.open_volume(id, recorded)?.keep_only(&[])?;
            }
            mount::unmount(&path)?;
        }
        Ok(self.folders.remove(id.as_str())?)
    }

    /// Whether something is mounted over the volume's folder.
    ///
    /// # Errors
    /// [`MountError`] if that cannot be determined.
    pub fn is_mounted(&self, id: &VolumeId) -> Result<bool, MountError> {
        mount::is_mount_root(&self.path(id))
    }

    fn path(&self, id: &VolumeId) -> PathBuf {
        self.path.join(id.as_str())
    }
}

/// Tested with the folder that no pod sees.
fn can_seal(folder: &Folder) -> Result<bool, FsError> {
    let sealing = seal::seal(folder).map_err(FsError::of("seal", folder.shown_path()))?;
    folder.unseal()?;
    Ok(sealing == Sealing::Sealed)
}
