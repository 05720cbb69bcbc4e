//! Views: a folder bound inside the data tmpfs, from which volumes are mounted.
//!
//! The cost of cloning a mount grows with the number of mounts below it; a view has none below. The cost of mounting
//! and unmounting grows with the number of peers of the mount above, and a clone is a peer of its source
//! (mount_namespaces(7)): if volumes were peers of the mount of the pods folder, each would slow down all others. A
//! view is private, so its clones have no peers. Clones of a read-only view are read-only from the beginning, even on
//! the host, which a later remount would not reach.

use std::path::Path;

use crate::host::fsx;
use crate::host::mount::{self, MountError, MountSource};

/// Makes `path` a mount of `source`, and replaces a different mount that an earlier run left there.
pub(super) fn ensure(source: &MountSource, path: &Path, read_only: bool) -> Result<(), MountError> {
    fsx::ensure_dir(path, 0o700)?;
    while mount::is_mount_root(path)? && mount::file_id_of(path)? != Some(source.id()) {
        mount::unmount(path)?;
    }
    if !mount::is_mount_root(path)? {
        source.attach_at(path)?;
    }
    mount::make_private(path)?;
    if read_only { mount::remount(path, true) } else { Ok(()) }
}
