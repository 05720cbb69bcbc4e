//! One volume's folder, held open. Its pod may have written into it even if its mount is read-only, because a container
//! can make it writable. So its content is untrusted: nothing in it is accessed by a path, and it is sealed except
//! while the driver changes it.

use std::ffi::OsStr;
use std::time::Duration;

use svid_csi_core::files::FileName;
use svid_csi_core::state::FileId;

use crate::host::beneath::{Budget, Folder};
use crate::host::fsx::FsError;
use crate::host::mount::{self, MountError};

/// How long what the pod puts into the folder is removed while the folder is not sealed. Others wait meanwhile.
const LONGEST: Duration = Duration::from_millis(200);

/// The open folder of one volume.
#[derive(Debug)]
pub struct VolumeFolder {
    folder: Folder,
}

impl VolumeFolder {
    /// The folder of that name among those of all volumes, which are on the file system `device`. A mount there must be
    /// the one in the volume's record.
    ///
    /// # Errors
    /// [`MountError::Foreign`], unless it is the expected tmpfs: secrets are written nowhere else.
    pub(super) fn open(
        folders: &Folder,
        name: &str,
        device: u64,
        recorded: Option<FileId>,
    ) -> Result<Self, MountError> {
        let folder = folders.mounted(name)?;
        let found = mount::file_id(&folder.stat_self()?);
        let is_tmpfs = mount::is_tmpfs(&folder).map_err(FsError::of("inspect", folder.shown_path()))?;
        if is_tmpfs && (found.device == device || Some(found) == recorded) {
            Ok(VolumeFolder { folder })
        } else {
            Err(MountError::Foreign(folder.shown_path().to_owned()))
        }
    }

    /// For reading.
    pub fn seen(&self) -> &Folder {
        &self.folder
    }

    /// Unseals the folder, runs `change`, and seals it again, whether the change succeeds or not.
    ///
    /// # Errors
    /// Those of the change, and [`FsError`].
    pub fn change<T, E: From<FsError>>(&self, change: impl FnOnce(&Folder) -> Result<T, E>) -> Result<T, E> {
        self.folder.unseal()?;
        let changed = change(&self.folder);
        let sealed = self.folder.seal();
        let changed = changed?;
        sealed?;
        Ok(changed)
    }

    /// Sets the mode and group of the folder, if they differ.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn shape(&self, mode: u32, group: Option<u32>) -> Result<(), FsError> {
        let stat = self.folder.stat_self()?;
        let fits = u32::from(stat.stx_mode) & 0o7777 == mode && group.is_none_or(|group| group == stat.stx_gid);
        if fits { Ok(()) } else { self.change(|folder| folder.shape(mode, group)) }
    }

    /// Removes everything in it except these names.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn keep_only(&self, names: &[FileName]) -> Result<(), FsError> {
        let is_kept = |name: &OsStr| names.iter().any(|kept| name == kept.as_str());
        if self.folder.names()?.iter().all(|name| is_kept(name)) {
            return Ok(());
        }
        self.change(|folder| remove_others(folder, &mut budget(), is_kept))
    }
}

/// How much of what its pod keeps adding one change removes.
pub fn budget() -> Budget {
    Budget::of(LONGEST)
}

/// Removes everything in a folder except the names that `is_kept` accepts. A pod that keeps adding names harms only
/// itself: its volume is left with them, and retried.
pub(super) fn remove_others(
    folder: &Folder,
    budget: &mut Budget,
    is_kept: impl Fn(&OsStr) -> bool,
) -> Result<(), FsError> {
    loop {
        let mut others = folder.names()?;
        others.retain(|name| !is_kept(name));
        if others.is_empty() {
            return Ok(());
        }
        for name in others {
            if budget.is_spent() {
                return Err(folder.keeps_filling());
            }
            folder.remove_within(&name, budget)?;
        }
    }
}
