//! Mounts, at the system call wall. Everything here blocks; nothing here knows of volumes or pods.
//!
//! Paths that come from requests are walked with openat2 and without following links, mounts are attached to file
//! descriptors, so that a path that is swapped in between leads nowhere.

mod error;
mod inspect;
mod left_over;
mod point;
mod propagation;
mod source;
mod tmpfs;

pub use error::MountError;
pub use inspect::{InspectedFile, InspectedMount};
pub use point::{Look, MountPoint};
pub use propagation::Propagation;
pub use source::{
    MountSource, are_one_folder, file_id, file_id_of, is_deleted, is_mount_root, make_private, remount, unmount,
};
pub use tmpfs::{DataMount, TmpfsLimits, ensure_tmpfs, is_tmpfs, restore_tmpfs};
