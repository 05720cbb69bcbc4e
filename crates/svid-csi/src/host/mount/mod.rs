//! Mounts, at the level of system calls. All functions block, and none knows about volumes or pods.
//!
//! Paths from requests are resolved with openat2 without following links, and mounts are attached to file descriptors,
//! so that swapping a path in between has no effect.

mod error;
mod inspect;
mod left_over;
mod mountinfo;
mod point;
mod propagation;
mod source;
mod tmpfs;

pub use error::MountError;
pub use inspect::{InspectedFile, InspectedMount};
pub use mountinfo::{OWN as OWN_MOUNTS, mounts};
pub use point::{MountPoint, MountState};
pub use propagation::{Propagation, is_mounted_somewhere};
pub use source::{
    MountSource, Tree, are_one_folder, file_id, file_id_of, is_deleted, is_mount_root, make_private, remount,
    reports_mount_roots, unmount,
};
pub use tmpfs::{DataMount, TmpfsLimits, ensure_tmpfs, is_restricted, is_tmpfs, make_writable, restore_tmpfs};
#[cfg(feature = "fuzzing")]
pub use {mountinfo::ListedMount, propagation::is_root_of_any};
