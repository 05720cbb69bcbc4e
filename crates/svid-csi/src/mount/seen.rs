//! What can be told of a mount that another program has made, before anything in it is believed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use svid_csi_core::state::FileId;
use zeroize::Zeroizing;

use super::point::{MountError, MountPoint};
use super::propagation::unescape;
use super::source::file_id;
use super::tmpfs::TMPFS_MAGIC;

const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
/// A file of a volume that is larger than this is none.
const LARGEST_FILE: u64 = 1 << 20;
/// A volume with more files than that is none.
const MOST_FILES: usize = 16;

/// Files by name, and the group they belong to.
pub type Files = (Vec<(String, Zeroizing<Vec<u8>>)>, u32);

/// A mount, held open.
#[derive(Debug)]
pub struct Seen {
    folder: OwnedFd,
    path: PathBuf,
    stat: Statx,
    /// The folder of its file system that is its root (proc_pid_mountinfo(5)).
    pub root: PathBuf,
    /// Whether its file system is a tmpfs.
    pub is_tmpfs: bool,
}

impl MountPoint {
    /// Looks closely at what is mounted here. Its cost grows with the mounts on the node: for what is seen once.
    ///
    /// # Errors
    /// [`MountError::System`].
    pub fn inspect(&self) -> Result<Seen, MountError> {
        let failed = |source: io::Error| MountError::System { action: "look at", path: self.path().to_owned(), source };
        let opened = self.open_root().map_err(io::Error::from);
        opened.and_then(|folder| Seen::of(folder, self.path())).map_err(failed)
    }
}

impl Seen {
    fn of(folder: OwnedFd, path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statx(&folder, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let is_tmpfs = u64::try_from(rustix::fs::fstatfs(&folder)?.f_type) == Ok(TMPFS_MAGIC);
        Ok(Seen { root: root_of(&folder)?, is_tmpfs, path: path.to_owned(), stat, folder })
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

    /// Where a symbolic link in it leads, if that is one name beside it.
    pub fn link_beside(&self, name: &str) -> Option<String> {
        let target = rustix::fs::readlinkat(&self.folder, name, Vec::new()).ok()?.into_string().ok()?;
        (!target.is_empty() && !target.contains('/') && target != "." && target != "..").then_some(target)
    }

    /// The files of a folder in it and the group they belong to, following no link on the way.
    ///
    /// # Errors
    /// [`MountError::System`], also where there are more or larger files than volumes have.
    pub fn files(&self, folder: &str) -> Result<Files, MountError> {
        let failed = |source| MountError::System { action: "read the files of", path: self.path.join(folder), source };
        read_files(&self.folder, folder).map_err(failed)
    }
}

fn read_files(root: &OwnedFd, folder: &str) -> io::Result<Files> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat2(root, folder, flags, Mode::empty(), BELOW)?;
    let group = rustix::fs::fstat(&folder)?.st_gid;
    let mut files = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let name = entry?.file_name().to_str().map_err(io::Error::other)?.to_owned();
        if name == "." || name == ".." {
            continue;
        }
        if files.len() == MOST_FILES {
            return Err(io::Error::other("there are too many"));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat2(&folder, &name, flags, Mode::empty(), BELOW)?);
        files.push((name, read(file)?));
    }
    Ok((files, group))
}

fn read(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = file.metadata()?;
    if !size.is_file() || size.len() > LARGEST_FILE {
        return Err(io::Error::other("one of them is no file of a volume"));
    }
    // One allocation of the exact size: growing would leave copies of a key behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(size.len()).unwrap_or_default() + 1));
    file.take(size.len()).read_to_end(&mut contents)?;
    Ok(contents)
}

/// The root of the mount that a descriptor is on. Ids of mounts are used again: this one is held by the descriptor.
fn root_of(folder: &OwnedFd) -> io::Result<PathBuf> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", folder.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let fields = mounts.lines().map(|line| line.split(' '));
    let mut found = fields.filter(|fields| fields.clone().next() == id);
    let root = found.next().and_then(|mut fields| fields.nth(3)).ok_or_else(|| io::Error::from(Errno::NOENT))?;
    Ok(unescape(root).into())
}
