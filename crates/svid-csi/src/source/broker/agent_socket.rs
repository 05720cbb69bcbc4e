//! Finds the socket of the Workload API in the agent's directory.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The names that agents and their manifests use.
const USUAL: [&str; 2] = ["agent.sock", "spire-agent.sock"];

/// Why it is not found.
#[derive(Debug, thiserror::Error)]
pub enum NoSocket {
    /// The directory does not exist or cannot be read.
    #[error("the agent's directory {} cannot be read", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// There is no socket in it.
    #[error("there is no socket in the agent's directory {}", .0.display())]
    Empty(PathBuf),
    /// There are several, and none has a usual name.
    #[error("there are {found} sockets in the agent's directory {}, and none is named agent.sock or spire-agent.sock", .directory.display())]
    Several {
        /// The directory.
        directory: PathBuf,
        /// How many.
        found: usize,
    },
}

/// The socket with a usual name, else the only one. Blocks.
pub(super) fn find(directory: &Path) -> Result<PathBuf, NoSocket> {
    let sockets =
        sockets(directory).map_err(|source| NoSocket::Directory { directory: directory.to_owned(), source })?;
    let usual = USUAL.iter().map(|name| directory.join(name)).find(|usual| sockets.contains(usual));
    match (usual, sockets.as_slice()) {
        (Some(usual), _) => Ok(usual),
        (None, []) => Err(NoSocket::Empty(directory.to_owned())),
        (None, [only]) => Ok(only.clone()),
        (None, several) => Err(NoSocket::Several { directory: directory.to_owned(), found: several.len() }),
    }
}

fn sockets(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // Follows links, because manifests create them with the usual names.
        match fs::metadata(&path) {
            Ok(found) if found.file_type().is_socket() => sockets.push(path),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn found(names: &[&str]) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let _listening: Vec<_> =
            names.iter().map(|name| UnixListener::bind(directory.path().join(name)).unwrap()).collect();
        fs::write(directory.path().join("a.pid"), "1").unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        find(directory.path()).map(name).map_err(|error| error.to_string())
    }

    #[test]
    fn a_usual_name_wins_and_a_single_socket_is_accepted() {
        assert_eq!(found(&["api.sock"]).unwrap(), "api.sock");
        assert_eq!(found(&["api.sock", "spire-agent.sock"]).unwrap(), "spire-agent.sock");
        assert_eq!(found(&["spire-agent.sock", "agent.sock"]).unwrap(), "agent.sock");
        assert!(found(&[]).unwrap_err().contains("no socket"));
        assert!(found(&["admin.sock", "api.sock"]).unwrap_err().contains("there are 2 sockets"));
        assert!(matches!(find(Path::new("/nowhere/at/all")), Err(NoSocket::Directory { .. })));
    }

    #[test]
    fn a_link_to_a_socket_counts_as_a_socket() {
        let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let _listening = UnixListener::bind(other.path().join("api.sock")).unwrap();
        std::os::unix::fs::symlink(other.path().join("api.sock"), directory.path().join("agent.sock")).unwrap();
        assert_eq!(find(directory.path()).unwrap(), directory.path().join("agent.sock"));
    }
}
