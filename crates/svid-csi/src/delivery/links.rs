//! Keeps the sockets of the agent's directory hard-linked into a directory that never goes away.
//!
//! A hard link to a Unix socket reaches the same listener, and the peer credentials the agent sees stay the caller's.
//! Both directories are held open while they are compared, and neither may be a link: the one beside it may belong to a
//! user who is not root.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use svid_csi_core::state::FileId;

use crate::fsx::FsError;

const TEMPORARY: &str = ".svid-csi.link";

/// What a synchronisation changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Sockets that are new or were re-created.
    pub(super) linked: Vec<OsString>,
    /// Sockets the agent has removed.
    pub(super) dropped: Vec<OsString>,
}

/// Makes `stable` hold exactly the sockets that `agent` holds at its top level. A missing `agent` holds none.
///
/// Goes on where one socket gives trouble, and tells the first trouble beside what was changed.
pub(super) fn synchronise(agent: &Path, stable: &Path) -> (Changes, Option<FsError>) {
    let mut changes = Changes::default();
    let trouble = try_synchronise(agent, stable, &mut changes);
    (changes, trouble.err())
}

fn try_synchronise(agent: &Path, stable: &Path, changes: &mut Changes) -> Result<(), FsError> {
    let to = open(stable)?;
    check_owner(&to, stable)?;
    let from = match open(agent) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    let wanted = from.as_ref().map_or(Ok(HashMap::new()), |from| sockets_in(from, agent))?;
    let present = sockets_in(&to, stable)?;
    let mut first_trouble = from.as_ref().map_or(Ok(()), |from| copy_access(from, &to, stable));
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        remove(&to, name, stable)?;
        changes.dropped.push(name.clone());
    }
    for name in wanted.iter().filter(|(name, id)| present.get(*name) != Some(id)).map(|(name, _)| name) {
        match from.as_ref().map_or(Ok(false), |from| link(from, &to, name, agent)) {
            Ok(true) => changes.linked.push(name.clone()),
            Ok(false) => {}
            Err(error) => first_trouble = first_trouble.and(Err(error)),
        }
    }
    first_trouble
}

/// The sockets in a folder; none where it is missing. Links are not followed, other files do not count.
pub(super) fn sockets(folder: &Path) -> Result<HashMap<OsString, FileId>, FsError> {
    match open(folder) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(HashMap::new()),
        opened => sockets_in(&opened?, folder),
    }
}

fn open(folder: &Path) -> Result<OwnedFd, FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty()).map_err(FsError::of("open the folder (no link is followed)", folder))
}

fn check_owner(folder: &OwnedFd, path: &Path) -> Result<(), FsError> {
    let stat = rustix::fs::fstat(folder).map_err(FsError::of("look at", path))?;
    if stat.st_uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let other = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
    Err(FsError { action: "use as the stable directory", path: path.to_owned(), source: other })
}

/// Whoever may not enter the agent's directory may not reach its sockets through ours either.
fn copy_access(from: &OwnedFd, to: &OwnedFd, stable: &Path) -> Result<(), FsError> {
    let failed = || FsError::of("copy the access rights of the agent's directory to", stable);
    let (theirs, ours) = (rustix::fs::fstat(from).map_err(failed())?, rustix::fs::fstat(to).map_err(failed())?);
    let access = |stat: &Stat| (stat.st_mode & 0o777, stat.st_gid);
    if access(&theirs) == access(&ours) {
        return Ok(());
    }
    if theirs.st_gid != ours.st_gid {
        rustix::fs::fchown(to, None, Some(rustix::fs::Gid::from_raw(theirs.st_gid))).map_err(failed())?;
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(theirs.st_mode & 0o777)).map_err(failed())
}

fn sockets_in(folder: &OwnedFd, path: &Path) -> Result<HashMap<OsString, FileId>, FsError> {
    let mut sockets = HashMap::new();
    for entry in Dir::read_from(folder).map_err(FsError::of("list", path))? {
        let entry = entry.map_err(FsError::of("list", path))?;
        let Ok(stat) = rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket && name != TEMPORARY {
            sockets.insert(name, FileId { device: stat.st_dev, inode: stat.st_ino });
        }
    }
    Ok(sockets)
}

/// Replaces the link `name` in one step. False when the agent removed its socket meanwhile.
fn link(from: &OwnedFd, to: &OwnedFd, name: &OsString, agent: &Path) -> Result<bool, FsError> {
    let socket = agent.join(name);
    let failed = || FsError::of("link the agent's socket", &socket);
    remove(to, &TEMPORARY.into(), agent)?;
    match rustix::fs::linkat(from, name, to, TEMPORARY, AtFlags::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        linked => linked.map_err(failed())?,
    }
    rustix::fs::renameat(to, TEMPORARY, to, name).map_err(failed())?;
    // rename(2) of two links to one file does nothing and leaves both.
    remove(to, &TEMPORARY.into(), agent)?;
    Ok(true)
}

fn remove(folder: &OwnedFd, name: &OsString, path: &Path) -> Result<(), FsError> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(errno) => Err(FsError::of("remove", &path.join(name))(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::net::{UnixListener, UnixStream};

    struct Folders {
        _root: tempfile::TempDir,
        agent: std::path::PathBuf,
        stable: std::path::PathBuf,
    }

    fn folders() -> Folders {
        let root = tempfile::tempdir().unwrap();
        let (agent, stable) = (root.path().join("agent"), root.path().join("stable"));
        fs::create_dir(&agent).unwrap();
        fs::create_dir(&stable).unwrap();
        Folders { _root: root, agent, stable }
    }

    fn synchronised(folders: &Folders) -> Changes {
        let (changes, trouble) = synchronise(&folders.agent, &folders.stable);
        trouble.map_or(changes, |error| panic!("{error}"))
    }

    #[test]
    fn a_link_reaches_the_agents_listener() {
        let folders = folders();
        let listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        assert_eq!(synchronised(&folders).linked, ["a.sock"]);
        UnixStream::connect(folders.stable.join("a.sock")).unwrap();
        listener.accept().unwrap();
        assert_eq!(synchronised(&folders), Changes::default());
    }

    #[test]
    fn a_recreated_directory_replaces_the_links() {
        let folders = folders();
        let _old = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        synchronised(&folders);
        fs::remove_dir_all(&folders.agent).unwrap();
        fs::create_dir(&folders.agent).unwrap();
        let new = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        assert_eq!(synchronised(&folders).linked, ["a.sock"]);
        UnixStream::connect(folders.stable.join("a.sock")).unwrap();
        new.accept().unwrap();
    }

    #[test]
    fn a_removed_socket_is_dropped_so_that_clients_see_enoent() {
        let folders = folders();
        let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        synchronised(&folders);
        fs::remove_dir_all(&folders.agent).unwrap();
        assert_eq!(synchronised(&folders).dropped, ["a.sock"]);
        let error = UnixStream::connect(folders.stable.join("a.sock")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_sockets_are_linked_and_a_left_over_is_cleared() {
        let folders = folders();
        fs::write(folders.agent.join("agent.conf"), "not a socket").unwrap();
        let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        fs::hard_link(folders.agent.join("a.sock"), folders.stable.join(TEMPORARY)).unwrap();
        synchronised(&folders);
        let names: Vec<_> = fs::read_dir(&folders.stable).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["a.sock"]);
    }

    #[test]
    fn a_stable_directory_that_is_a_link_or_anothers_is_refused() {
        let folders = folders();
        let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        let (elsewhere, link) = (folders.stable.join("elsewhere"), folders.stable.join("link"));
        fs::create_dir(&elsewhere).unwrap();
        let _precious = UnixListener::bind(elsewhere.join("precious.sock")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        assert!(synchronise(&folders.agent, &link).1.is_some());
        assert!(elsewhere.join("precious.sock").exists());
        let agent = folders.stable.join("agent-link");
        std::os::unix::fs::symlink(&folders.agent, &agent).unwrap();
        assert!(synchronise(&agent, &folders.stable).1.is_some());
        assert!(!folders.stable.join("a.sock").exists());
    }

    #[test]
    fn the_stable_directory_is_as_open_as_the_agents() {
        use std::os::unix::fs::PermissionsExt;
        let folders = folders();
        fs::set_permissions(&folders.agent, fs::Permissions::from_mode(0o710)).unwrap();
        synchronised(&folders);
        assert_eq!(fs::metadata(&folders.stable).unwrap().permissions().mode() & 0o777, 0o710);
    }
}
