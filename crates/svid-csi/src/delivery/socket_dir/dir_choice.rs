//! The directory that new pods get: the stable one, or the agent's own.

use std::path::Path;

use tracing::{info, warn};

/// The directory for new pods, and the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DirChoice {
    /// The stable directory, which pods cannot change through any mount of it.
    Sealed,
    /// The stable directory, which cannot be sealed.
    Unsealed,
    /// None: the agent's directory exists but cannot be used. Pods with the stable directory keep it.
    Unusable,
    /// The agent's own directory, because there can be no stable one.
    Plain,
    /// The agent's own directory, because it is on another mount, so that its sockets cannot be linked.
    Apart,
    /// The agent's own directory, because all its sockets are in subfolders.
    Nested,
}

impl DirChoice {
    pub(super) fn is_stable(self) -> bool {
        matches!(self, DirChoice::Sealed | DirChoice::Unsealed | DirChoice::Unusable)
    }

    /// Why pods with a writable mount could change the directory of all pods of the node.
    pub(super) fn lack_of_seal(self) -> Option<&'static str> {
        match self {
            DirChoice::Sealed | DirChoice::Unusable => None,
            DirChoice::Unsealed => Some(
                "the stable directory cannot be sealed (needs CAP_LINUX_IMMUTABLE, and on tmpfs Linux 6.0 or later)",
            ),
            DirChoice::Plain | DirChoice::Apart | DirChoice::Nested => Some("pods get the agent's own directory"),
        }
    }

    /// Logs that this is the directory from now on.
    pub(super) fn announce(self, agent: &Path) {
        let agent = agent.display();
        match self {
            DirChoice::Apart => {
                warn!(%agent, "the agent's directory is not on the same mount as the stable directory: until it is, new pods get a plain mount of it, which breaks if the agent's directory is re-created")
            }
            DirChoice::Nested => {
                warn!(%agent, "the agent's sockets are in subfolders of its directory: until that changes, new pods get a plain mount of it, which breaks if the agent's directory is re-created; give the folder of the socket with --workload-api-socket-dir")
            }
            DirChoice::Unsealed => {
                warn!(%agent, "the stable directory cannot be sealed (needs CAP_LINUX_IMMUTABLE, and on tmpfs Linux 6.0 or later): volumes without readOnly: true are refused")
            }
            _ => info!(shown = ?self, %agent, "the mount of the agent's directory for new pods has changed"),
        }
    }
}
