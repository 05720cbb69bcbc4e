//! Properties of another program's mount, examined before anything in it is trusted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::Statx;
use rustix::io::Errno;
use svid_csi_core::state::FileId;
use zeroize::Zeroizing;

use super::error::MountError;
use super::mountinfo::{self, mounts};
use super::point::MountPoint;
use super::source::file_id;
use super::tmpfs::is_tmpfs;
use crate::host::beneath::Folder;
use crate::host::fsx::FsError;

/// A larger file is not a file of a volume.
const LARGEST_FILE: u64 = 1 << 20;
/// A folder with more files is not a volume.
const MOST_FILES: usize = 16;

/// A file in a mount.
#[derive(Debug)]
pub struct InspectedFile {
    /// Its name.
    pub name: String,
    /// Its content.
    pub contents: Zeroizing<Vec<u8>>,
    /// Its group.
    pub group: u32,
}

/// A mount, held open.
#[derive(Debug)]
pub struct InspectedMount {
    folder: Folder,
    stat: Statx,
    /// The path of its root within its file system (proc_pid_mountinfo(5)).
    pub root: PathBuf,
    /// Whether its file system is a tmpfs.
    pub is_tmpfs: bool,
}

impl MountPoint {
    /// Examines the mount at this point. The cost grows with the mounts on the node, so it is used only once per mount.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn inspect(&self) -> Result<InspectedMount, MountError> {
        let failed = |source: io::Error| MountError::System { action: "inspect", path: self.path().to_owned(), source };
        let opened = self.open_root().map_err(io::Error::from);
        opened.and_then(|folder| InspectedMount::of(folder, self.path())).map_err(failed)
    }
}

impl InspectedMount {
    fn of(folder: OwnedFd, path: &Path) -> io::Result<Self> {
        let (root, is_tmpfs) = (root_of(&folder)?, is_tmpfs(&folder)?);
        let folder = Folder::of(folder, path.to_owned());
        let stat = folder.stat_self().map_err(|error| error.source)?;
        Ok(InspectedMount { root, is_tmpfs, stat, folder })
    }

    /// Any folder as if it were one, for the fuzz targets.
    ///
    /// # Errors
    /// If it cannot be opened or examined.
    #[cfg(feature = "fuzzing")]
    pub fn of_folder(path: &Path) -> io::Result<Self> {
        Self::of(std::fs::File::open(path)?.into(), path)
    }

    /// The identity of its root.
    pub fn id(&self) -> FileId {
        file_id(&self.stat)
    }

    /// The owner of its root.
    pub fn owner(&self) -> u32 {
        self.stat.stx_uid
    }

    /// Whether users other than the owner may write into its root.
    pub fn is_open_to_others(&self) -> bool {
        self.stat.stx_mode & 0o022 != 0
    }

    /// The target of a symbolic link in it, if that is a name in the same folder.
    pub fn link_beside(&self, name: &str) -> Option<String> {
        let target = self.folder.link(name).ok()??.into_string().ok()?;
        (!target.is_empty() && !target.contains('/') && target != "." && target != "..").then_some(target)
    }

    /// The files of a folder in it, without following links.
    ///
    /// # Errors
    /// [`MountError::System`], also if there are more or larger files than in a volume.
    pub fn files(&self, folder: &str) -> Result<Vec<InspectedFile>, MountError> {
        let folder = self.folder.folder(folder)?;
        let names = folder.names()?;
        let failed = |reason: &str| FsError::of("read the files of", folder.shown_path())(io::Error::other(reason));
        if names.len() > MOST_FILES {
            return Err(failed("there are too many").into());
        }
        let file = |name: std::ffi::OsString| {
            let name = name.into_string().map_err(|_| failed("a file name is not UTF-8"))?;
            let contents = folder.read(&name, LARGEST_FILE)?;
            let group = folder.stat(&name)?.map_or(0, |stat| stat.st_gid);
            Ok(InspectedFile { name, contents, group })
        };
        names.into_iter().map(file).collect()
    }
}

/// The root of the mount that a descriptor is on. Ids of mounts are reused, but the descriptor keeps this one.
fn root_of(folder: impl AsFd) -> io::Result<PathBuf> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", folder.as_fd().as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok());
    let mountinfo = std::fs::read(mountinfo::OWN)?;
    let found = mounts(&mountinfo).find(|mount| Some(mount.id) == id);
    Ok(found.ok_or(Errno::NOENT)?.root)
}
