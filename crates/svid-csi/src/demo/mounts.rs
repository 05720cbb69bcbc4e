//! The mounts, as listed by the kernel.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The mount points at and below `folder`, each as often as it is mounted (proc(5), `/proc/pid/mountinfo`). The demo's
/// own paths contain no characters that mountinfo escapes.
pub(super) fn at_and_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(folder)).collect())
}
