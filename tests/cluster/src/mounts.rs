//! The mounts of this machine: reading them, and unmounting those of a cluster, the topmost first.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

/// The mount points of this mount namespace, in the order of their creation.
pub fn mount_points() -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    Ok(table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect())
}

/// The number of mounts at exactly `path`, counting stacked ones.
pub fn count_on(path: &Path) -> Result<usize> {
    Ok(mount_points()?.iter().filter(|point| *point == path).count())
}

/// Unmounts everything at and below `folder`.
pub fn clear_below(folder: &Path) -> Result<()> {
    for _ in 0..16 {
        let mut below: Vec<_> = mount_points()?.into_iter().filter(|point| point.starts_with(folder)).collect();
        if below.is_empty() {
            return Ok(());
        }
        below.reverse();
        for point in below {
            // Unmounting a parent may have unmounted this one as well; the table is read again.
            let _ = unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
    bail!("mounts below {} come back as fast as they are unmounted", folder.display())
}

/// Removes a folder of ours with its content, once nothing is mounted there, so that no content of a mount is removed.
pub fn remove_folder(folder: &Path) -> Result<()> {
    clear_below(folder)?;
    unseal(folder);
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Removes the immutable flag of folders: a driver seals the one with the agent's sockets, and leaves it sealed. If
/// that fails, the removal reports the reason.
fn unseal(folder: &Path) {
    if let Ok(open) = File::open(folder)
        && let Ok(flags) = ioctl_getflags(&open)
        && flags.contains(IFlags::IMMUTABLE)
    {
        let _ = ioctl_setflags(&open, flags.difference(IFlags::IMMUTABLE));
    }
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.for_each(|entry| unseal(&entry.path()));
}

/// Mounts made in containers must reach the host: without this, Bidirectional propagation is refused.
pub fn share_root() -> Result<()> {
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("cannot share the mounts of / (the cluster needs root)")
}

/// The table writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'\\').then(|| tail.get(..3)).flatten().and_then(octal);
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescape(r"/plain"), Path::new("/plain"));
        assert_eq!(unescape(r"/odd\9"), Path::new(r"/odd\9"));
    }

    #[test]
    fn sealed_folders_of_a_driver_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let sealed = folder.path().join("agent/sealed");
        fs::create_dir_all(sealed.join("below")).unwrap();
        let open = File::open(&sealed).unwrap();
        if ioctl_setflags(&open, ioctl_getflags(&open).unwrap_or(IFlags::empty()) | IFlags::IMMUTABLE).is_ok() {
            fs::remove_dir_all(&sealed).unwrap_err();
        }
        remove_folder(&folder.path().join("agent")).unwrap();
        assert!(!sealed.exists());
    }

    #[test]
    fn the_root_is_a_mount_point() {
        assert!(count_on(Path::new("/")).unwrap() >= 1);
    }
}
