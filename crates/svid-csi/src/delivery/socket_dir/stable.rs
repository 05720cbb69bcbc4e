//! The path of the stable directory: on the mount of the agent's directory, because link(2) does not work across
//! mounts.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags};
use rustix::io::Errno;
use tracing::warn;

use super::error::SocketDirError;
use crate::host::fsx::{self, FsError};

/// The directory of `--stable-socket-dir`.
pub(super) fn explicit(agent: &Path, stable: &Path) -> Result<PathBuf, SocketDirError> {
    let parent = agent.parent().unwrap_or(agent);
    for folder in [stable, parent] {
        fs::create_dir_all(folder).map_err(FsError::of("create the folder", folder))?;
    }
    let nearest = if fsx::exists(agent)? { agent } else { parent };
    if mount_id(nearest)? == mount_id(stable)? {
        Ok(stable.to_owned())
    } else {
        Err(SocketDirError::OtherMount { stable: stable.to_owned(), agent: agent.to_owned() })
    }
}

/// The hidden sibling of the agent's directory, if the two can share sockets.
pub(super) fn beside(agent: &Path) -> Result<Option<PathBuf>, SocketDirError> {
    let (Some(parent), Some(name)) = (agent.parent(), agent.file_name().and_then(|name| name.to_str())) else {
        return Ok(None);
    };
    let same_mount = if fsx::exists(agent)? {
        mount_id(agent)? == mount_id(parent)?
    } else {
        is_permitted(parent, fs::create_dir_all(parent).map_err(FsError::of("create the folder", parent)))?
    };
    let stable = parent.join(format!(".{name}.svid-csi"));
    let usable = same_mount && is_permitted(&stable, fsx::ensure_dir(&stable, 0o755))?;
    if !usable {
        warn!(
            agent = %agent.display(),
            "volumes will stop working if the agent's socket directory is ever deleted and re-created: mount the directory above it \
             into the driver as one writable hostPath volume (mountPropagation: HostToContainer), so that svid-csi can keep a \
             stable directory beside it"
        );
    }
    Ok(usable.then_some(stable))
}

/// Whether the driver may create a folder. Another failure does not mean no, nor does any about a folder that exists: pods may
/// have it mounted.
fn is_permitted(folder: &Path, created: Result<(), FsError>) -> Result<bool, FsError> {
    let is_refused =
        |error: &FsError| matches!(error.source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem);
    match created {
        Err(error) if is_refused(&error) && !fsx::exists(folder)? => Ok(false),
        created => created.map(|()| true),
    }
}

/// Whether both are on one mount, as far as is known.
pub(super) fn are_together(agent: &Path, stable: &Path) -> bool {
    matches!((mount_id(agent), mount_id(stable)), (Ok(agent), Ok(stable)) if agent == stable)
}

/// Compared at one moment in one namespace only, because mount ids are reused.
fn mount_id(path: &Path) -> Result<u64, FsError> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID);
    let known = |stat: Statx| match stat.stx_mask & StatxFlags::MNT_ID.bits() {
        // Kernels before Linux 5.8 do not report it.
        0 => Err(Errno::OPNOTSUPP),
        _ => Ok(stat.stx_mnt_id),
    };
    stat.and_then(known).map_err(FsError::of("inspect", path))
}
