//! The folder with an agent's sockets, whose user may have changed it in any way; read through its descriptor.
//!
//! Clients look for an agent under several names, so there are links beside its socket (SPIRE's chart creates `socket`
//! and `api.sock`). A link to a socket in the same folder, or below it, counts as that socket; no other link is
//! followed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::{fs, iter};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use svid_csi_core::state::FileId;

use super::access::{self, Access, by_descriptor};
use crate::host::fsx::FsError;

const IN_FOLDER: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);
/// The maximum length of a chain of links through the folder's own path.
const MOST_LINKS: usize = 8;
/// The maximum number of names; agents have fewer.
pub(super) const MOST_NAMES: usize = 4096;
const MOST_FOLDERS: usize = 64;

/// A socket of the agent, held open.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) handle: OwnedFd,
    pub(super) id: FileId,
    /// Its own name, which differs from the name of a link to it.
    pub(super) name: OsString,
    /// When it was created, in nanoseconds, if the file system records that.
    pub(super) born: Option<i128>,
    pub(super) access: Access,
}

/// The content of an agent's folder.
#[derive(Debug, Default)]
pub(super) struct Offered {
    /// Its sockets, by all their names in it.
    pub(super) sockets: BTreeMap<OsString, Socket>,
    /// Links that lead out of it.
    pub(super) leading_out: BTreeSet<OsString>,
}

/// The path of the agent's folder: this one, or the target of a link there. Only a link of root is followed, and only
/// the first, because the folder above may belong to another user, who must not choose the sockets of pods.
pub(super) fn locate(configured: &Path) -> PathBuf {
    let is_roots = |found: fs::Metadata| found.is_symlink() && found.uid() == rustix::process::geteuid().as_raw();
    let leads_to = fs::symlink_metadata(configured).is_ok_and(is_roots).then(|| fs::read_link(configured).ok());
    let above = configured.parent().unwrap_or(configured);
    leads_to.flatten().map_or_else(|| configured.to_owned(), |target| tidy(&above.join(target)))
}

/// Opens a folder, which must not be a link.
pub(super) fn open(folder: &Path) -> Result<OwnedFd, FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty()).map_err(FsError::of("open the folder (no link is followed)", folder))
}

/// The sockets in a folder and the links to them. `names` are the paths of the folder that links may use, beginning
/// with the one it was opened by.
///
/// # Errors
/// If it cannot be determined, which does not mean that there are none.
pub(super) fn offered(folder: &OwnedFd, names: &[PathBuf]) -> Result<Offered, FsError> {
    let mut offered = Offered::default();
    let entries = entries(folder, &names[0])?;
    if entries.len() > MOST_NAMES {
        let many = io::Error::other(format!("it contains more than {MOST_NAMES} files"));
        return Err(FsError::of("list", &names[0])(many));
    }
    for (name, stat) in entries {
        match find(folder, names, &name, FileType::from_raw_mode(stat.st_mode))
            .map_err(FsError::of("look at", &names[0].join(&name)))?
        {
            Found::Socket(socket) => _ = offered.sockets.insert(name, socket),
            Found::Outside => _ = offered.leading_out.insert(name),
            Found::Nothing => {}
        }
    }
    Ok(offered)
}

/// Where a name leads.
enum Found {
    Socket(Socket),
    /// A link out of its folder.
    Outside,
    /// Another file, or a link to one or to none.
    Nothing,
}

fn find(folder: &OwnedFd, names: &[PathBuf], name: &OsStr, kind: FileType) -> io::Result<Found> {
    let handle = match kind {
        FileType::Socket => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            unless_gone(rustix::fs::openat(folder, name, flags, Mode::empty()))?
        }
        FileType::Symlink => match follow(folder, names, name)? {
            LinkTarget::Inside(found) => found,
            LinkTarget::Outside => return Ok(Found::Outside),
        },
        _ => None,
    };
    Ok(handle.map_or(Ok(None), socket)?.map_or(Found::Nothing, Found::Socket))
}

/// The names in a folder with their types, up to one more than [`MOST_NAMES`]; no link is followed.
pub(super) fn entries(folder: &OwnedFd, path: &Path) -> Result<Vec<(OsString, Stat)>, FsError> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder).map_err(FsError::of("list", path))? {
        let entry = entry.map_err(FsError::of("list", path))?;
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        if name == "." || name == ".." {
            continue;
        }
        let stat = unless_gone(rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW))
            .map_err(FsError::of("inspect", &path.join(&name)))?;
        entries.extend(stat.map(|stat| (name, stat)));
        if entries.len() > MOST_NAMES {
            break;
        }
    }
    Ok(entries)
}

/// The folders below a folder, up to a limit, each after its parent.
///
/// # Errors
/// If one cannot be listed.
pub(super) fn folders_below(folder: &Path) -> Result<Vec<PathBuf>, FsError> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while next < found.len() && found.len() < MOST_FOLDERS {
        found.extend(children(&found[next], fs::FileType::is_dir)?);
        next += 1;
    }
    found.truncate(MOST_FOLDERS);
    Ok(found.split_off(1))
}

/// The sockets in a folder and in those below it.
///
/// # Errors
/// If one cannot be listed.
pub(super) fn sockets_below(folder: &Path) -> Result<Vec<PathBuf>, FsError> {
    use std::os::unix::fs::FileTypeExt;
    let mut sockets = Vec::new();
    for folder in iter::once(folder.to_owned()).chain(folders_below(folder)?) {
        sockets.extend(children(&folder, fs::FileType::is_socket)?);
    }
    Ok(sockets)
}

/// A missing folder has none.
fn children(folder: &Path, is_wanted: fn(&fs::FileType) -> bool) -> Result<Vec<PathBuf>, FsError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(FsError::of("list", folder))?,
    };
    let mut children = Vec::new();
    for entry in entries.take(MOST_NAMES) {
        let entry = entry.map_err(FsError::of("list", folder))?;
        match entry.file_type() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            kind => {
                let kind = kind.map_err(FsError::of("inspect", &entry.path()))?;
                children.extend(is_wanted(&kind).then(|| entry.path()));
            }
        }
    }
    Ok(children)
}

/// The target of a link.
enum LinkTarget {
    /// In its folder, if it exists.
    Inside(Option<OwnedFd>),
    Outside,
}

/// The kernel follows paths that stay in the folder; a path that leaves it counts if it returns through the folder's own
/// path.
fn follow(folder: &OwnedFd, names: &[PathBuf], link: &OsStr) -> io::Result<LinkTarget> {
    let mut at = PathBuf::from(link);
    for _ in 0..MOST_LINKS {
        match rustix::fs::openat2(folder, &at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), IN_FOLDER) {
            Err(Errno::XDEV) => {}
            opened => return Ok(LinkTarget::Inside(unless_gone(opened)?)),
        }
        let target = match rustix::fs::readlinkat(folder, &at, Vec::new()) {
            // It leads on through a folder outside.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Ok(LinkTarget::Outside),
            target => PathBuf::from(OsString::from_vec(target?.into_bytes())),
        };
        let whole = tidy(&names[0].join(at.parent().unwrap_or(Path::new(""))).join(target));
        match names.iter().find_map(|name| whole.strip_prefix(name).ok()) {
            Some(inside) => at = inside.to_owned(),
            None => return Ok(LinkTarget::Outside),
        }
    }
    Ok(LinkTarget::Inside(None))
}

/// `None` if there is no such file, or it cannot be reached by any number of attempts: another failure does not mean no.
fn unless_gone<T>(found: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match found {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        found => found.map(Some),
    }
}

fn socket(handle: OwnedFd) -> io::Result<Option<Socket>> {
    let stat = rustix::fs::fstat(&handle)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Ok(None);
    }
    let (born, access) = (access::born(&handle)?, Access::of(&handle, &stat)?);
    let name = fs::read_link(by_descriptor(&handle))?.file_name().unwrap_or_default().to_owned();
    Ok(Some(Socket { id: id(&stat), name, born, access, handle }))
}

pub(super) fn id(stat: &Stat) -> FileId {
    FileId { device: stat.st_dev, inode: stat.st_ino }
}

/// A missing folder is not an error, because an agent that is not running has no sockets.
pub(super) fn unless_missing<T>(opened: Result<T, FsError>) -> Result<Option<T>, FsError> {
    match opened {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir { _ = tidied.pop() } else { tidied.push(part) }
    }
    tidied
}
