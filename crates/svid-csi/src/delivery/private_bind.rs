//! Views: a folder bound inside the data tmpfs, to mount volumes from.
//!
//! Cloning a mount costs time in proportion to the mounts below it; a view has none below. Mounting and unmounting cost
//! time in proportion to the peers of the mount above, and a clone is a peer of its source (mount_namespaces(7)): were
//! volumes peers of the mount the pods folder is on, each would make all others slower. A view is private, so its clones
//! have no peers. A read-only view makes every clone of it read-only from its first moment, on the host too, where a
//! later remount would not reach.

use std::path::Path;

use crate::host::fsx;
use crate::host::mount::{self, MountError, MountSource};

/// Makes `path` a mount of `source`, replacing a mount of anything else left there by an earlier run.
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
