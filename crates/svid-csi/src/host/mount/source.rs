//! The mounts of pods: clones of a folder.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use svid_csi_core::state::FileId;

use super::error::MountError;

/// A detached mount, removed when it is dropped.
#[derive(Debug)]
pub struct Tree(pub(super) OwnedFd);

/// A folder that can be mounted elsewhere, held open.
#[derive(Debug)]
pub struct MountSource {
    folder: OwnedFd,
    id: FileId,
}

impl MountSource {
    /// Opens the folder at `path`, which belongs to the driver.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn open(path: &Path) -> Result<Self, MountError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).and_then(Self::of).map_err(MountError::of("open", path))
    }

    pub(super) fn of(folder: OwnedFd) -> Result<Self, Errno> {
        let stat = rustix::fs::statx(&folder, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        Ok(MountSource { folder, id: file_id(&stat) })
    }

    /// The folder's identity, which is the root of each mount of it.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Whether it is read-only through its mount.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn is_read_only(&self) -> Result<bool, MountError> {
        is_read_only(&self.folder).map_err(MountError::of("inspect", Path::new("the source of a volume")))
    }

    /// A detached mount of it.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn tree(&self) -> Result<Tree, MountError> {
        self.clone_tree().map(Tree).map_err(MountError::of("clone the mount of", Path::new("the volume")))
    }

    fn clone_tree(&self) -> Result<OwnedFd, Errno> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        rustix::mount::open_tree(&self.folder, "", flags)
    }

    /// Mounts it at a path of the driver, which must be a folder.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn attach_at(&self, path: &Path) -> Result<(), MountError> {
        let action = "mount a view at";
        let tree = self.clone_tree().map_err(MountError::of(action, path))?;
        rustix::mount::move_mount(&tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(MountError::of(action, path))
    }
}

pub(super) fn is_read_only(folder: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatvfs(folder)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Sets whether the mount at `path`, a path of the driver, is writable. Other mounts of the same folder do not change.
///
/// # Errors
/// [`MountError::System`].
pub fn remount(path: &Path, read_only: bool) -> Result<(), MountError> {
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    flags.set(MountFlags::RDONLY, read_only);
    rustix::mount::mount_remount(path, flags, "").map_err(MountError::of("change the options of the mount at", path))
}

/// Removes the mount at `path`, a path of the driver, from its peer group, so that its clones are in none.
///
/// # Errors
/// [`MountError::System`].
pub fn make_private(path: &Path) -> Result<(), MountError> {
    rustix::mount::mount_change(path, MountPropagationFlags::PRIVATE)
        .map_err(MountError::of("make the mount private at", path))
}

/// Unmounts a path of the driver.
///
/// # Errors
/// [`MountError::System`].
pub fn unmount(path: &Path) -> Result<(), MountError> {
    // Detached, because another call may be mounting from it at this moment.
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
    rustix::mount::unmount(path, flags).map_err(MountError::of("unmount", path))
}

/// Whether something is mounted exactly at `path`.
///
/// # Errors
/// [`MountError::System`] if that cannot be determined, which does not mean "no": mounting or removing would then do
/// harm.
pub fn is_mount_root(path: &Path) -> Result<bool, MountError> {
    stat(path)?.map_or(Ok(false), |stat| is_root_of_mount(&stat).map_err(MountError::of("inspect", path)))
}

/// Whether the kernel reports which folders are mounts.
///
/// # Errors
/// [`MountError::System`] if that cannot be determined.
pub fn reports_mount_roots() -> Result<bool, MountError> {
    let root = stat(Path::new("/"))?;
    Ok(root.is_some_and(|root| root.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)))
}

/// Whether the folder at `path` was deleted elsewhere, and exists only because the driver holds it open.
///
/// # Errors
/// [`MountError::System`] if that cannot be determined.
pub fn is_deleted(path: &Path) -> Result<bool, MountError> {
    Ok(stat(path)?.is_some_and(|stat| stat.stx_nlink == 0))
}

/// The identity of the folder at `path`, without following a link; `None` if it does not exist.
///
/// # Errors
/// [`MountError::System`] if that cannot be determined.
pub fn file_id_of(path: &Path) -> Result<Option<FileId>, MountError> {
    Ok(stat(path)?.map(|stat| file_id(&stat)))
}

/// Whether both paths lead to the same folder, following links: `/var/lib/kubelet` may be a link, for example.
///
/// # Errors
/// [`MountError::System`] if that cannot be determined.
pub fn are_one_folder(one: &Path, other: &Path) -> Result<bool, MountError> {
    let id = |path| match rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        stat => stat.map(|stat| Some(file_id(&stat))).map_err(MountError::of("inspect", path)),
    };
    let (one, other) = (id(one)?, id(other)?);
    Ok(one.is_some() && one == other)
}

fn stat(path: &Path) -> Result<Option<Statx>, MountError> {
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Err(Errno::NOENT) => Ok(None),
        stat => stat.map(Some).map_err(MountError::of("inspect", path)),
    }
}

/// Whether it is the root of a mount. Kernels before Linux 5.8 do not report that, so a missing attribute means
/// nothing.
pub(super) fn is_root_of_mount(stat: &Statx) -> Result<bool, Errno> {
    mounted(stat.stx_attributes, stat.stx_attributes_mask)
}

fn mounted(attributes: StatxAttributes, reported: StatxAttributes) -> Result<bool, Errno> {
    match reported.contains(StatxAttributes::MOUNT_ROOT) {
        true => Ok(attributes.contains(StatxAttributes::MOUNT_ROOT)),
        false => Err(Errno::OPNOTSUPP),
    }
}

/// The identity from the result of `statx`.
pub fn file_id(stat: &Statx) -> FileId {
    FileId { device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undetermined_answer_is_not_a_no() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let beyond = file.path().join("x");
        is_mount_root(&beyond).unwrap_err();
        is_deleted(&beyond).unwrap_err();
        file_id_of(&beyond).unwrap_err();
        assert!(!is_mount_root(file.path()).unwrap() && file_id_of(file.path()).unwrap().is_some());
        assert_eq!(file_id_of(Path::new("/none/x")).unwrap(), None);
        assert!(is_mount_root(Path::new("/proc")).unwrap());
        let (none, root) = (StatxAttributes::empty(), StatxAttributes::MOUNT_ROOT);
        assert_eq!(mounted(none, none), Err(Errno::OPNOTSUPP), "an old kernel");
        assert_eq!((mounted(none, root), mounted(root, root)), (Ok(false), Ok(true)));
    }
}
