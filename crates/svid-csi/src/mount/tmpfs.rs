//! The tmpfs that volume data lives on.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use tracing::warn;

use super::point::MountError;
use super::source::is_mount_root;
use crate::fsx::{self, FsError};

const MARKER: &str = ".svid-csi";
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// How the data tmpfs was found or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataMount {
    /// One of an earlier run was there.
    Found,
    /// A new one was mounted.
    New {
        /// Whether its pages are kept out of swap.
        noswap: bool,
    },
}

/// Whether a file or folder is on a tmpfs.
///
/// # Errors
/// The file system could not be asked.
pub fn is_tmpfs(fd: impl std::os::fd::AsFd) -> Result<bool, Errno> {
    Ok(u64::try_from(rustix::fs::fstatfs(fd)?.f_type) == Ok(TMPFS_MAGIC))
}

/// Mounts a tmpfs of at most `size` bytes at `path`, unless one of this driver is there already: a second would hide the first.
///
/// # Errors
/// [`MountError::Foreign`] when something else is mounted at `path`.
pub fn ensure_tmpfs(path: &Path, size: u64) -> Result<DataMount, MountError> {
    let marker = path.join(MARKER);
    if is_mount_root(path)? {
        let statfs = rustix::fs::statfs(path).map_err(MountError::of("look at", path))?;
        let is_tmpfs = u64::try_from(statfs.f_type) == Ok(TMPFS_MAGIC);
        let is_marked = fsx::exists(&marker)?;
        if !is_tmpfs || !(is_marked || is_unused(path)?) {
            return Err(MountError::Foreign(path.to_owned()));
        }
        if !is_marked {
            mark(&marker)?;
        }
        resize(path, size);
        return Ok(DataMount::Found);
    }
    let noswap = match mount(path, &format!("mode=0700,size={size},noswap")) {
        Err(Errno::INVAL) => mount(path, &format!("mode=0700,size={size}")).map(|()| false),
        mounted => mounted.map(|()| true),
    };
    let noswap = noswap.map_err(MountError::of("mount the data tmpfs at", path))?;
    mark(&marker).inspect_err(|_| {
        let _ = rustix::mount::unmount(path, UnmountFlags::empty());
    })?;
    Ok(DataMount::New { noswap })
}

/// Gives a tmpfs of an earlier run the size that is asked for now. One that holds more than that keeps its size.
fn resize(path: &Path, size: u64) {
    if let Err(errno) = reconfigure(path, &format!("size={size}")) {
        warn!(path = %path.display(), size, error = %errno, "the data tmpfs keeps its size");
    }
}

/// Makes a tmpfs writable again, with room for so many bytes and inodes (0: without a limit). A container with `CAP_SYS_ADMIN`
/// can change these for all mounts of the file system by its own (mount(2), MS_REMOUNT).
///
/// # Errors
/// [`MountError::System`].
pub fn restore_tmpfs(path: &Path, size: u64, inodes: u64) -> Result<(), MountError> {
    reconfigure(path, &format!("size={size},nr_inodes={inodes}")).map_err(MountError::of("remount", path))
}

fn reconfigure(path: &Path, options: &str) -> Result<(), Errno> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount_remount(path, FLAGS, &*options)
}

fn mount(path: &Path, options: &str) -> Result<(), Errno> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("svid-csi", path, "tmpfs", FLAGS, &*options)
}

/// An earlier run may have been killed between mounting and marking: a tmpfs at our place with nothing but a mark half made
/// is ours.
fn is_unused(path: &Path) -> Result<bool, FsError> {
    for entry in fs::read_dir(path).map_err(FsError::of("list", path))? {
        if entry.map_err(FsError::of("list", path))?.file_name() != format!(".{MARKER}.new").as_str() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn mark(marker: &Path) -> Result<(), FsError> {
    fsx::write_atomic(marker, b"volume data of svid-csi\n", 0o400)
}
