//! A folder that others may write into, accessed through its descriptor: no link is followed, nothing leads out of it,
//! and no mount in it is entered. Its path is only used in messages.

mod removal;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Statx, StatxFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

pub use self::removal::Budget;
use super::fsx::FsError;
use super::seal::{self, Sealing};

const OWN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const BENEATH: ResolveFlags = OWN.union(ResolveFlags::NO_XDEV);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The number of names listed at a time.
const MOST_NAMES: usize = 65_536;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    seals: bool,
}

impl Folder {
    /// Opens a folder at a path of the driver's own. If `seals` is set, files and folders in it are sealed.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn open(path: &Path, seals: bool) -> Result<Self, FsError> {
        let fd = rustix::fs::open(path, FOLDER, Mode::empty()).map_err(FsError::of("open", path))?;
        Ok(Folder { fd, path: path.to_owned(), seals })
    }

    /// Wraps an open folder.
    pub fn of(fd: OwnedFd, path: PathBuf) -> Self {
        Folder { fd, path, seals: false }
    }

    /// The same folder, whose content is sealed from then on if `seals` is set.
    pub fn sealing(self, seals: bool) -> Self {
        Folder { seals, ..self }
    }

    /// Whether its content is sealed.
    pub fn seals(&self) -> bool {
        self.seals
    }

    /// Opens a folder in it.
    ///
    /// # Errors
    /// [`FsError`], also if it is a link or on another mount.
    pub fn folder(&self, name: impl AsRef<OsStr>) -> Result<Self, FsError> {
        self.enter(name.as_ref(), BENEATH)
    }

    /// Opens a folder in it on which the driver may have mounted something.
    ///
    /// # Errors
    /// [`FsError`], also if it is a link.
    pub fn mounted(&self, name: &str) -> Result<Self, FsError> {
        self.enter(name.as_ref(), OWN)
    }

    fn enter(&self, name: &OsStr, how: ResolveFlags) -> Result<Self, FsError> {
        let fd = rustix::fs::openat2(&self.fd, name, FOLDER, Mode::empty(), how);
        let path = self.path.join(name);
        Ok(Folder { fd: fd.map_err(FsError::of("open", &path))?, path, seals: self.seals })
    }

    /// Creates a folder in it.
    ///
    /// # Errors
    /// [`FsError`], also if the name exists.
    pub fn create_folder(&self, name: &str, mode: u32) -> Result<Self, FsError> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))
            .map_err(self.failed("create the folder", name.as_ref()))?;
        self.folder(name)
    }

    /// The names in it, in no particular order: all of them, or so many that the driver cannot have created them.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn names(&self) -> Result<Vec<OsString>, FsError> {
        let failed = |errno| FsError::of("list", &self.path)(errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
            if names.len() == MOST_NAMES {
                break;
            }
        }
        Ok(names)
    }

    /// The properties of the file with that name, if it exists.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>, FsError> {
        match rustix::fs::statat(&self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            stat => stat.map(Some).map_err(self.failed("inspect", name.as_ref())),
        }
    }

    /// The properties of the folder itself.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn stat_self(&self) -> Result<Statx, FsError> {
        rustix::fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
            .map_err(FsError::of("inspect", &self.path))
    }

    /// The target of the link with that name; `None` if there is no such link.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn link(&self, name: impl AsRef<OsStr>) -> Result<Option<OsString>, FsError> {
        match rustix::fs::readlinkat(&self.fd, name.as_ref(), Vec::new()) {
            Ok(target) => Ok(Some(OsStr::from_bytes(target.to_bytes()).to_owned())),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(self.failed("read the link", name.as_ref())(errno)),
        }
    }

    /// Opens a regular file in it for reading.
    ///
    /// # Errors
    /// [`FsError`], also if it is not a regular file.
    pub fn file(&self, name: impl AsRef<OsStr>) -> Result<File, FsError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = name.as_ref();
        let file = rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), BENEATH);
        let file = File::from(file.map_err(self.failed("open", name))?);
        let is_file = file.metadata().map_err(self.failed("inspect", name))?.is_file();
        if is_file { Ok(file) } else { Err(self.failed("read", name)(io::Error::other("it is not a regular file"))) }
    }

    /// Reads a regular file of at most that many bytes.
    ///
    /// # Errors
    /// [`FsError`], also if it is longer or not a regular file.
    pub fn read(&self, name: impl AsRef<OsStr>, most: u64) -> Result<Zeroizing<Vec<u8>>, FsError> {
        let name = name.as_ref();
        let file = self.file(name)?;
        let length = file.metadata().map_err(self.failed("inspect", name))?.len();
        if length > most {
            return Err(self.failed("read", name)(io::Error::from(Errno::FBIG)));
        }
        // One allocation of the exact size: growing would leave copies of a key behind.
        let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
        file.take(length).read_to_end(&mut contents).map_err(self.failed("read", name))?;
        Ok(contents)
    }

    /// Writes a new file and seals it. The name must not exist.
    ///
    /// # Errors
    /// [`FsError`]; a part of the file may then exist.
    pub fn create(&self, name: &str, contents: &[u8], mode: u32, group: Option<u32>) -> Result<(), FsError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let named = name.as_ref();
        let file = rustix::fs::openat2(&self.fd, name, flags, Mode::from_raw_mode(0o600), BENEATH);
        let mut file = File::from(file.map_err(self.failed("create", named))?);
        file.write_all(contents).map_err(self.failed("write", named))?;
        give(&file, group).map_err(self.failed("change the group of", named))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(self.failed("change the mode of", named))?;
        self.seal_inode(&file, named)
    }

    /// Creates a link in it. The name must not exist.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn symlink(&self, target: &str, name: &str) -> Result<(), FsError> {
        rustix::fs::symlinkat(target, &self.fd, name).map_err(self.failed("link", name.as_ref()))
    }

    /// Gives a file in it a second name, which must not exist.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn hard_link(&self, name: &str, second: &str) -> Result<(), FsError> {
        rustix::fs::linkat(&self.fd, name, &self.fd, second, AtFlags::empty())
            .map_err(self.failed("link", second.as_ref()))
    }

    /// Renames something other than a folder, and replaces what has the new name, if anything. The removal of a folder
    /// gives up when the budget is spent.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn rename(&self, from: &str, to: &str, budget: &mut Budget) -> Result<(), FsError> {
        if self.is_folder(to.as_ref())? {
            self.remove_within(to, budget)?;
        }
        rustix::fs::renameat(&self.fd, from, &self.fd, to).map_err(self.failed("replace", to.as_ref()))
    }

    /// Sets the mode and group of the folder itself, unless they are already set. Without `group`, it keeps its own.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn shape(&self, mode: u32, group: Option<u32>) -> Result<(), FsError> {
        let stat = self.stat_self()?;
        let group = group.filter(|group| *group != stat.stx_gid);
        give(&self.fd, group).map_err(FsError::of("change the group of", &self.path))?;
        if u32::from(stat.stx_mode) & 0o7777 == mode {
            return Ok(());
        }
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode)).map_err(FsError::of("change the mode of", &self.path))
    }

    /// Seals the folder itself, if possible.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn seal(&self) -> Result<(), FsError> {
        self.seal_inode(&self.fd, OsStr::new("."))
    }

    /// Seals a regular file in it, if possible.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn seal_file(&self, name: impl AsRef<OsStr>) -> Result<(), FsError> {
        self.seal_inode(self.file(&name)?, name.as_ref())
    }

    fn seal_inode(&self, fd: impl AsFd, name: &OsStr) -> Result<(), FsError> {
        match self.seals.then(|| seal::seal(fd)).transpose() {
            Ok(None | Some(Sealing::Sealed)) => Ok(()),
            Ok(Some(Sealing::Unsupported)) => Err(self.failed("seal", name)(Errno::PERM)),
            Err(error) => Err(self.failed("seal", name)(error)),
        }
    }

    /// Removes the seal of the folder itself.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn unseal(&self) -> Result<(), FsError> {
        seal::unseal(&self.fd).map_err(FsError::of("unseal", &self.path))
    }

    /// Whether the folder itself is sealed.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn is_sealed(&self) -> Result<bool, FsError> {
        seal::is_sealed(&self.fd).map_err(FsError::of("inspect", &self.path))
    }

    /// A path to a name in the folder that is valid as long as the folder is open, for calls that do not accept a
    /// descriptor. If its last component is a link, it is followed, unless the call specifies otherwise.
    pub fn through_descriptor(&self, name: &str) -> PathBuf {
        Path::new("/proc/self/fd").join(self.fd.as_raw_fd().to_string()).join(name)
    }

    /// Its path, for messages.
    pub fn shown_path(&self) -> &Path {
        &self.path
    }

    fn is_folder(&self, name: &OsStr) -> Result<bool, FsError> {
        let is_folder = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Ok(self.stat(name)?.is_some_and(is_folder))
    }

    fn failed<E: Into<io::Error>>(&self, action: &'static str, name: &OsStr) -> impl FnOnce(E) -> FsError {
        let path = self.path.join(name);
        move |source| FsError { action, path, source: source.into() }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn give(fd: impl AsFd, group: Option<u32>) -> Result<(), Errno> {
    group.map_or(Ok(()), |group| rustix::fs::fchown(fd, None, Some(Gid::from_raw(group))))
}

#[cfg(test)]
mod tests;
