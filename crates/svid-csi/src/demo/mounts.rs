//! The mounts, as listed by the kernel.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::mount;

/// The mount points at and below `folder`, each as often as it is mounted.
pub(super) fn at_and_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let points = |list: Vec<u8>| {
        mount::mounts(&list).map(|mount| mount.point).filter(|point| point.starts_with(folder)).collect()
    };
    fs::read(mount::OWN_MOUNTS).map(points)
}
