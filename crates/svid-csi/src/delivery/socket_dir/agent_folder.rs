//! The folder with an agent's sockets, whose user may have changed it in any way; read through its descriptor.
//!
//! Clients look for an agent under several names, so there are links beside its socket (SPIRE's chart creates `socket`
//! and `api.sock`). A link to a socket in the same folder, or below it, counts as that socket; no other link is
//! followed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::{fs, iter};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use svid_csi_core::state::FileId;

use crate::host::fsx::FsError;

const IN_FOLDER: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);
/// The maximum length of a chain of links through the folder's own path.
const MOST_LINKS: usize = 8;
/// The maximum number of names; agents have fewer.
const MOST_NAMES: usize = 256;
const MOST_FOLDERS: usize = 64;

/// A socket of the agent, held open.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) handle: OwnedFd,
    pub(super) id: FileId,
    pub(super) access: Access,
}

/// The access rights of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
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
pub(super) fn offered(folder: &OwnedFd, names: &[PathBuf]) -> Result<Offered, FsError> {
    let mut offered = Offered::default();
    for (name, stat) in entries(folder, &names[0])? {
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(folder, &name, flags, Mode::empty()).ok()
            }
            FileType::Symlink => match follow(folder, names, &name) {
                Err(LeadsOut) => {
                    offered.leading_out.insert(name);
                    continue;
                }
                Ok(found) => found,
            },
            _ => None,
        };
        if let Some(socket) = found.and_then(socket) {
            offered.sockets.insert(name, socket);
        }
    }
    Ok(offered)
}

/// All names in a folder with their types; no link is followed.
pub(super) fn entries(folder: &OwnedFd, path: &Path) -> Result<Vec<(OsString, Stat)>, FsError> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder).map_err(FsError::of("list", path))?.take(MOST_NAMES) {
        let entry = entry.map_err(FsError::of("list", path))?;
        let Ok(stat) = rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        if name != "." && name != ".." {
            entries.push((name, stat));
        }
    }
    Ok(entries)
}

/// The folders below a folder, up to a limit, each after its parent.
pub(super) fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while next < found.len() && found.len() < MOST_FOLDERS {
        found.extend(children(&found[next], fs::FileType::is_dir));
        next += 1;
    }
    found.truncate(MOST_FOLDERS);
    found.split_off(1)
}

/// The sockets in a folder and in those below it.
pub(super) fn sockets_below(folder: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let folders = iter::once(folder.to_owned()).chain(folders_below(folder));
    folders.flat_map(|folder| children(&folder, fs::FileType::is_socket)).collect()
}

fn children(folder: &Path, is_wanted: fn(&fs::FileType) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_NAMES);
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| is_wanted(&kind))).map(|entry| entry.path()).collect()
}

/// A link leads out of its folder.
struct LeadsOut;

/// The target of a link. The kernel follows paths that stay in the folder; a path that leaves it counts if it returns
/// through the folder's own path.
fn follow(folder: &OwnedFd, names: &[PathBuf], link: &OsStr) -> Result<Option<OwnedFd>, LeadsOut> {
    let mut at = PathBuf::from(link);
    for _ in 0..MOST_LINKS {
        match rustix::fs::openat2(folder, &at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), IN_FOLDER) {
            Err(Errno::XDEV) => {}
            opened => return Ok(opened.ok()),
        }
        let target = rustix::fs::readlinkat(folder, &at, Vec::new()).map_err(|_| LeadsOut)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        let whole = tidy(&names[0].join(at.parent().unwrap_or(Path::new(""))).join(target));
        at = names.iter().find_map(|name| whole.strip_prefix(name).ok()).ok_or(LeadsOut)?.to_owned();
    }
    Ok(None)
}

fn socket(handle: OwnedFd) -> Option<Socket> {
    let stat = rustix::fs::fstat(handle.as_fd()).ok()?;
    let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
    is_socket.then(|| Socket { handle, id: id(&stat), access: access(&stat) })
}

pub(super) fn id(stat: &Stat) -> FileId {
    FileId { device: stat.st_dev, inode: stat.st_ino }
}

pub(super) fn access(stat: &Stat) -> Access {
    Access { mode: stat.st_mode & 0o7777, user: stat.st_uid, group: stat.st_gid }
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
