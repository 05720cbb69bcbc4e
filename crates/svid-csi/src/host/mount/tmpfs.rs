//! The tmpfs for volume data.

use std::fs;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use tracing::warn;

use super::error::MountError;
use super::source::{is_mount_root, remount};
use crate::host::fsx::{self, FsError};

const MARKER: &str = ".svid-csi";
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// How the data tmpfs was found or created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataMount {
    /// The one of an earlier run exists.
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
/// If the file system cannot be examined.
pub fn is_tmpfs(fd: impl std::os::fd::AsFd) -> Result<bool, Errno> {
    Ok(u64::try_from(rustix::fs::fstatfs(fd)?.f_type) == Ok(TMPFS_MAGIC))
}

/// The capacity of the data tmpfs.
#[derive(Debug, Clone, Copy)]
pub struct TmpfsLimits {
    /// The size of the files, in bytes.
    pub bytes: u64,
    /// The number of files, folders and links, set explicitly because the kernel's default depends on the machine.
    pub inodes: u64,
}

impl TmpfsLimits {
    /// The limits of a tmpfs of this size in bytes: the smallest files take a page of 4 KiB, links and sockets none.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        Self { bytes, inodes: bytes / 512 }
    }
}

/// Mounts a tmpfs with these limits at `path`, unless one of this driver exists: a second one would hide the first.
///
/// # Errors
/// [`MountError::Foreign`] if something else is mounted at `path`.
pub fn ensure_tmpfs(path: &Path, limits: TmpfsLimits) -> Result<DataMount, MountError> {
    let marker = path.join(MARKER);
    if is_mount_root(path)? {
        let statfs = rustix::fs::statfs(path).map_err(MountError::of("look at", path))?;
        let is_tmpfs = u64::try_from(statfs.f_type) == Ok(TMPFS_MAGIC);
        let is_marked = fsx::exists(&marker)?;
        if !is_tmpfs || !(is_marked || is_unused(path)?) {
            return Err(MountError::Foreign(path.to_owned()));
        }
        restore_tmpfs(path, limits)?;
        if !is_marked {
            mark(&marker)?;
        }
        return Ok(DataMount::Found);
    }
    let TmpfsLimits { bytes, inodes } = limits;
    let options = format!("mode=0700,size={bytes},nr_inodes={inodes}");
    let noswap = match mount(path, &format!("{options},noswap")) {
        Err(Errno::INVAL) => mount(path, &options).map(|()| false),
        mounted => mounted.map(|()| true),
    };
    let noswap = noswap.map_err(MountError::of("mount the data tmpfs at", path))?;
    mark(&marker).inspect_err(|_| {
        let _ = rustix::mount::unmount(path, UnmountFlags::empty());
    })?;
    Ok(DataMount::New { noswap })
}

/// Makes a tmpfs writable again, and sets these limits as far as the kernel permits: it refuses a limit below the
/// current use, and one for a tmpfs that was unlimited. A container with `CAP_SYS_ADMIN` can change all of this for
/// every mount of the file system through its own (mount(2), MS_REMOUNT).
///
/// # Errors
/// [`MountError::System`] if it cannot be made writable.
pub fn restore_tmpfs(path: &Path, TmpfsLimits { bytes, inodes }: TmpfsLimits) -> Result<(), MountError> {
    // One option at a time, because the kernel applies all or none.
    reconfigure(path, "").map_err(MountError::of("remount", path))?;
    for option in [format!("size={bytes}"), format!("nr_inodes={inodes}")] {
        if let Err(errno) = reconfigure(path, &option) {
            warn!(path = %path.display(), option, error = %errno, "cannot resize the data tmpfs");
        }
    }
    Ok(())
}

/// Whether the file system at `path` is read-only or smaller than it should be. Zero means no limit (tmpfs(5)).
///
/// # Errors
/// [`MountError::System`] if that cannot be determined.
pub fn is_restricted(path: &Path, limits: TmpfsLimits) -> Result<bool, MountError> {
    let stat = rustix::fs::statvfs(path).map_err(MountError::of("look at", path))?;
    let bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
    Ok(stat.f_flag.contains(StatVfsMountFlags::RDONLY)
        || (1..limits.bytes).contains(&bytes)
        || (1..limits.inodes).contains(&stat.f_files))
}

/// Makes the mount at `path`, a path of the driver, writable, and restores the file system if it is a tmpfs that was
/// remounted read-only or smaller.
///
/// # Errors
/// [`MountError::System`].
pub fn make_writable(path: &Path, limits: TmpfsLimits) -> Result<(), MountError> {
    remount(path, false)?;
    let statfs = rustix::fs::statfs(path).map_err(MountError::of("look at", path))?;
    if u64::try_from(statfs.f_type) != Ok(TMPFS_MAGIC) || !is_restricted(path, limits)? {
        return Ok(());
    }
    restore_tmpfs(path, limits)?;
    warn!(path = %path.display(), "restored the tmpfs of a volume, which was read-only or smaller than this driver's limit, as after a remount by a container with CAP_SYS_ADMIN");
    Ok(())
}

fn reconfigure(path: &Path, options: &str) -> Result<(), Errno> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount_remount(path, FLAGS, &*options)
}

fn mount(path: &Path, options: &str) -> Result<(), Errno> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("svid-csi", path, "tmpfs", FLAGS, &*options)
}

/// An earlier run may have been killed between mounting and marking, so a tmpfs at our path that contains only an
/// incomplete mark is ours.
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
