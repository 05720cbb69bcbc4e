//! A mount point: an open folder and a name in it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};
use svid_csi_core::state::FileId;
use svid_csi_core::target::TargetPath;

use super::error::MountError;
use super::left_over;
use super::source::{self, MountSource, Tree, file_id, is_root_of_mount};

const WALK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

/// The mount point of a volume. Its parent folder is held open, so that it cannot be swapped.
#[derive(Debug)]
pub struct MountPoint {
    parent: OwnedFd,
    path: PathBuf,
    name: String,
}

/// The state of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountState {
    /// It does not exist.
    Missing,
    /// A folder on which nothing is mounted.
    Folder,
    /// A mount whose root is this file.
    Mounted(FileId),
    /// A file or a symbolic link.
    NotAFolder,
}

impl MountState {
    /// The identity of the mounted folder.
    pub fn mounted(self) -> Option<FileId> {
        if let MountState::Mounted(root) = self { Some(root) } else { None }
    }
}

impl MountPoint {
    /// Opens the folder above `target`. Below the kubelet's pods folder, or below the root for other paths, no link is followed.
    ///
    /// # Errors
    /// [`MountError::Link`] and [`MountError::NoParent`] among others.
    pub fn open(target: &TargetPath) -> Result<Self, MountError> {
        let path = target.path();
        let trusted = target.place().map_or(Path::new("/"), |place| place.pods_dir);
        let below = target.parent().strip_prefix(trusted).unwrap_or(Path::new(""));
        let refuse = |errno| match errno {
            Errno::LOOP => MountError::Link(path.to_owned()),
            Errno::NOENT => MountError::NoParent(path.to_owned()),
            Errno::NOTDIR => MountError::NotAFolder(path.to_owned()),
            _ => MountError::of("open the folder above", path)(errno),
        };
        let mut parent = rustix::fs::open(trusted, WALK, Mode::empty()).map_err(refuse)?;
        if !below.as_os_str().is_empty() {
            parent = rustix::fs::openat2(&parent, below, WALK, Mode::empty(), ResolveFlags::BENEATH | NO_LINKS)
                .map_err(refuse)?;
        }
        Ok(MountPoint { parent, path: path.to_owned(), name: target.name().to_owned() })
    }

    /// Determines the current state.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn look(&self) -> Result<MountState, MountError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statx(&self.parent, self.name.as_str(), flags, StatxFlags::BASIC_STATS) {
            Err(Errno::NOENT) => Ok(MountState::Missing),
            Err(errno) => Err(MountError::of("inspect", &self.path)(errno)),
            Ok(stat) if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Directory => {
                Ok(MountState::NotAFolder)
            }
            Ok(stat) => match is_root_of_mount(&stat).map_err(MountError::of("inspect", &self.path))? {
                true => Ok(MountState::Mounted(file_id(&stat))),
                false => Ok(MountState::Folder),
            },
        }
    }

    /// Creates the folder to mount on.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn create(&self, mode: u32) -> Result<(), MountError> {
        rustix::fs::mkdirat(&self.parent, self.name.as_str(), Mode::from_raw_mode(mode))
            .map_err(MountError::of("create the target folder", &self.path))
    }

    /// Mounts `tree` here: no other process can see it incomplete, and it cannot end up elsewhere.
    ///
    /// The caller has checked the state and holds the volume's lock, because attaching to a mounted folder would stack
    /// the mounts.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn attach(&self, Tree(tree): Tree) -> Result<(), MountError> {
        // The name is one component, and a link is not followed (MOVE_MOUNT_T_SYMLINKS). A descriptor of the target
        // could be opened only after the previous mount is gone, when it is too late to fail.
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&tree, "", &self.parent, self.name.as_str(), flags)
            .map_err(MountError::of("mount the volume at", &self.path))
    }

    /// Unmounts every mount that `is_ours` accepts, including stacked ones, and stops at any other. A mount that
    /// `in_use` accepts is detached even while a process such as a shell or a backup uses it. That process keeps the
    /// mount until it leaves, so the caller must still be able to remove the secrets in it.
    ///
    /// # Errors
    /// [`MountError::Foreign`] if something else is mounted there.
    pub fn detach_while(
        &self,
        is_ours: impl Fn(FileId) -> Result<bool, MountError>,
        in_use: impl Fn(FileId) -> Result<bool, MountError>,
    ) -> Result<(), MountError> {
        while let MountState::Mounted(root) = self.look()? {
            if !is_ours(root)? {
                return Err(MountError::Foreign(self.path.clone()));
            }
            let through_parent = format!("/proc/self/fd/{}/{}", self.parent.as_raw_fd(), self.name);
            let detach = if in_use(root)? { UnmountFlags::DETACH } else { UnmountFlags::empty() };
            rustix::mount::unmount(through_parent, UnmountFlags::NOFOLLOW | detach)
                .map_err(MountError::of("unmount", &self.path))?;
        }
        Ok(())
    }

    /// Removes the target folder (CSI spec, NodeUnpublishVolume: "the plugin MUST delete the target path"); a missing
    /// one is fine. Empty folders in it are removed, as are entries that belong to root and have a name that `is_ours`
    /// accepts.
    ///
    /// # Errors
    /// [`MountError::NotEmpty`] if it contains anything else.
    pub fn remove(&self, is_ours: impl Fn(&str) -> bool) -> Result<(), MountError> {
        let action = "remove the target folder";
        let unlink = || rustix::fs::unlinkat(&self.parent, self.name.as_str(), AtFlags::REMOVEDIR);
        match unlink() {
            Err(Errno::NOENT) | Ok(()) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(MountError::of(action, &self.path)(errno)),
        }
        let left = left_over::clear(&self.parent, &self.name, &is_ours);
        let left = left.map_err(MountError::of("list the contents of", &self.path))?;
        if !left.is_empty() {
            return Err(MountError::NotEmpty { path: self.path.clone(), holds: left.join(", ") });
        }
        unlink().map_err(MountError::of(action, &self.path))
    }

    /// The folder mounted here, as a source for other mounts.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn source(&self) -> Result<MountSource, MountError> {
        let opened = self.open_root().map_err(MountError::of("open", &self.path))?;
        MountSource::of(opened).map_err(MountError::of("open", &self.path))
    }

    /// Whether the folder mounted here is read-only through this mount.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn is_read_only(&self) -> Result<bool, MountError> {
        let opened = self.open_root().and_then(|root| source::is_read_only(&root));
        opened.map_err(MountError::of("inspect", &self.path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn open_root(&self) -> Result<OwnedFd, Errno> {
        let flags = ResolveFlags::BENEATH | NO_LINKS;
        rustix::fs::openat2(&self.parent, self.name.as_str(), WALK, Mode::empty(), flags)
    }

    /// Reads a small file beside the target, such as the kubelet's `vol_data.json`; `None` if it does not exist.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn read_beside(&self, name: &str) -> Result<Option<Vec<u8>>, MountError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat2(&self.parent, name, flags, Mode::empty(), ResolveFlags::BENEATH | NO_LINKS)
        {
            Err(Errno::NOENT) => return Ok(None),
            file => file.map_err(MountError::of("read a file beside", &self.path))?,
        };
        let mut contents = Vec::new();
        let limited = io::Read::take(std::fs::File::from(file), 64 * 1024);
        let failed = |source| MountError::System { action: "read a file beside", path: self.path.clone(), source };
        io::Read::read_to_end(&mut { limited }, &mut contents).map_err(failed)?;
        Ok(Some(contents))
    }
}
