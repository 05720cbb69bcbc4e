//! Views: a folder bound inside the data tmpfs, from which volumes are mounted.
//!
//! The cost of cloning a mount grows with the number of mounts below it; a view has none below. The cost of mounting
//! and unmounting grows with the number of peers of the mount above, and a clone is a peer of its source
//! (mount_namespaces(7)): if volumes were peers of the mount of the pods folder, each would slow down all others. A
//! view is private, so its clones have no peers. It is read-only, and so are its clones from the beginning, even on the
//! host, which a later remount would not reach.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use svid_csi_core::state::FileId;

use crate::host::fsx;
use crate::host::mount::{self, MountError, MountSource};

/// A view of a folder that may be replaced by another one.
#[derive(Debug)]
pub(super) struct View {
    path: PathBuf,
    shown: Mutex<Option<FileId>>,
}

impl View {
    /// A view at `path` that shows nothing yet.
    pub(super) fn at(path: PathBuf) -> Self {
        View { path, shown: Mutex::default() }
    }

    /// Makes it show `folder`, whose identity is `id`, if it does not already. Returns its path.
    pub(super) fn show(&self, folder: &Path, id: FileId) -> Result<&Path, MountError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != Some(id) {
            ensure(&MountSource::open(folder)?, &self.path)?;
            *shown = Some(id);
        }
        Ok(&self.path)
    }
}

/// Makes `path` a read-only mount of `source`, and replaces a different mount that an earlier run left there.
pub(super) fn ensure(source: &MountSource, path: &Path) -> Result<(), MountError> {
    fsx::ensure_dir(path, 0o700)?;
    while mount::is_mount_root(path)? && mount::file_id_of(path)? != Some(source.id()) {
        mount::unmount(path)?;
    }
    if !mount::is_mount_root(path)? {
        source.attach_at(path)?;
    }
    mount::make_private(path)?;
    mount::remount(path, true)
}
