//! Keeps the sockets of the agent's directory hard-linked into a directory that never goes away.
//!
//! A hard link to a Unix socket reaches the same listener, and the peer credentials the agent sees stay the caller's.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use svid_csi_core::state::FileId;

use crate::fsx::{self, FsError};

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
pub(super) fn synchronise(agent: &Path, stable: &Path) -> Result<Changes, FsError> {
    let wanted = sockets(agent)?;
    let present = sockets(stable)?;
    let mut changes = Changes::default();
    for (name, id) in &wanted {
        if present.get(name) != Some(id) && link(&agent.join(name), stable, name)? {
            changes.linked.push(name.clone());
        }
    }
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        fsx::remove_file(&stable.join(name))?;
        changes.dropped.push(name.clone());
    }
    Ok(changes)
}

/// The sockets in a folder. Links are not followed, other files do not count.
pub(super) fn sockets(folder: &Path) -> Result<HashMap<OsString, FileId>, FsError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        entries => entries.map_err(FsError::of("list", folder))?,
    };
    let mut sockets = HashMap::new();
    for entry in entries {
        let entry = entry.map_err(FsError::of("list", folder))?;
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.file_type().is_socket() && entry.file_name() != TEMPORARY {
            sockets.insert(entry.file_name(), FileId { device: metadata.dev(), inode: metadata.ino() });
        }
    }
    Ok(sockets)
}

/// Replaces the link `name` in one step. False when the agent removed its socket meanwhile.
fn link(socket: &Path, stable: &Path, name: &OsString) -> Result<bool, FsError> {
    let temporary = stable.join(TEMPORARY);
    fsx::remove_file(&temporary)?;
    match fs::hard_link(socket, &temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        linked => linked.map_err(FsError::of("link the agent's socket", socket))?,
    }
    let path = stable.join(name);
    fs::rename(&temporary, &path).map_err(FsError::of("replace", &path))?;
    // rename(2) of two links to one file does nothing and leaves both.
    fsx::remove_file(&temporary)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn a_link_reaches_the_agents_listener() {
        let folders = folders();
        let listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        assert_eq!(synchronise(&folders.agent, &folders.stable).unwrap().linked, ["a.sock"]);
        UnixStream::connect(folders.stable.join("a.sock")).unwrap();
        listener.accept().unwrap();
        assert_eq!(synchronise(&folders.agent, &folders.stable).unwrap(), Changes::default());
    }

    #[test]
    fn a_recreated_directory_replaces_the_links() {
        let folders = folders();
        let _old = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        synchronise(&folders.agent, &folders.stable).unwrap();
        fs::remove_dir_all(&folders.agent).unwrap();
        fs::create_dir(&folders.agent).unwrap();
        let new = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        assert_eq!(synchronise(&folders.agent, &folders.stable).unwrap().linked, ["a.sock"]);
        UnixStream::connect(folders.stable.join("a.sock")).unwrap();
        new.accept().unwrap();
    }

    #[test]
    fn a_removed_socket_is_dropped_so_that_clients_see_enoent() {
        let folders = folders();
        let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        synchronise(&folders.agent, &folders.stable).unwrap();
        fs::remove_dir_all(&folders.agent).unwrap();
        assert_eq!(synchronise(&folders.agent, &folders.stable).unwrap().dropped, ["a.sock"]);
        let error = UnixStream::connect(folders.stable.join("a.sock")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_sockets_are_linked_and_a_left_over_is_cleared() {
        let folders = folders();
        fs::write(folders.agent.join("agent.conf"), "not a socket").unwrap();
        let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
        fs::hard_link(folders.agent.join("a.sock"), folders.stable.join(TEMPORARY)).unwrap();
        synchronise(&folders.agent, &folders.stable).unwrap();
        let names: Vec<_> = fs::read_dir(&folders.stable).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["a.sock"]);
    }
}
