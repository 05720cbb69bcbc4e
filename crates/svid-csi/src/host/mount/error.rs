//! Why a mount point cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use svid_csi_core::error::Class;
use svid_csi_core::finding;
use svid_csi_core::findings::Check;

use crate::host::fsx::FsError;

/// Why a mount point cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A component of the path is a symbolic link.
    #[error("target_path {} leads through a symbolic link, which is never followed", .0.display())]
    Link(PathBuf),
    /// The target is not a folder.
    #[error("target_path {} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The folder above the target is missing.
    #[error("the folder above target_path {} does not exist; the orchestrator creates it (CSI spec, NodePublishVolume)", .0.display())]
    NoParent(PathBuf),
    /// Something that this driver did not mount is mounted at the target.
    #[error("something else is mounted at {}; it is left alone", .0.display())]
    Foreign(PathBuf),
    /// Nothing is mounted on the target folder any more, but it is not empty.
    #[error("{} cannot be removed: nothing is mounted there any more, but it contains {holds}; check that on the node and remove it", .path.display())]
    NotEmpty {
        /// The target.
        path: PathBuf,
        /// The names in it, safe to print.
        holds: String,
    },
    /// A system call failed.
    #[error("cannot {action} {}", .path.display())]
    System {
        /// The attempted action.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

impl From<FsError> for MountError {
    fn from(FsError { action, path, source }: FsError) -> Self {
        MountError::System { action, path, source }
    }
}

impl MountError {
    pub(super) fn of(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> MountError {
        move |errno| MountError::System { action, path: path.to_owned(), source: errno.into() }
    }

    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self {
            MountError::Link(_) | MountError::NotAFolder(_) | MountError::NoParent(_) => Class::Invalid,
            MountError::Foreign(_) | MountError::NotEmpty { .. } => Class::Blocked,
            MountError::System { .. } => Class::Internal,
        }
    }

    /// The finding that explains it.
    pub fn finding(&self) -> Option<&'static Check> {
        match self {
            MountError::Foreign(_) => Some(finding!("volume-covered")),
            MountError::Link(_)
            | MountError::NotAFolder(_)
            | MountError::NoParent(_)
            | MountError::NotEmpty { .. }
            | MountError::System { .. } => None,
        }
    }
}
