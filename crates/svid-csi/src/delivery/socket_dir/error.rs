//! Why the agent's sockets cannot be delivered.

use std::path::PathBuf;

use svid_csi_core::finding;
use svid_csi_core::findings::Check;

use crate::host::fsx::FsError;
use crate::host::mount::MountError;

/// Why the agent's sockets cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum SocketDirError {
    /// The agent's directory does not exist, and there is no replacement for it.
    #[error(
        "the agent's socket directory {} does not exist yet (--workload-api-socket-dir); is the agent running?", .0.display()
    )]
    NoAgent(PathBuf),
    /// The agent's directory was deleted under the driver's own mount of it.
    #[error(
        "the agent's socket directory {} was deleted or re-created on the host, and this driver still uses the old one: restart \
         the driver's pod, and mount the directory above it instead (mountPropagation: HostToContainer), so that svid-csi can \
         follow it", .0.display()
    )]
    Deleted(PathBuf),
    /// `--stable-socket-dir` lies on another mount than the agent's directory.
    #[error(
        "--stable-socket-dir {} is not on the same mount as {}, so sockets cannot be linked into it: mount the directory \
         above both as one hostPath volume", .stable.display(), .agent.display()
    )]
    OtherMount {
        /// The stable directory.
        stable: PathBuf,
        /// The agent's.
        agent: PathBuf,
    },
    /// Pods could replace the agent's socket for all others.
    #[error(
        "a volume without readOnly: true would let its pod replace the agent's socket for all pods of the node, because {0}: write \
         readOnly: true in the volume"
    )]
    Writable(&'static str),
    /// The agent's directory exists and cannot be read.
    #[error("the agent's sockets cannot be reached (--workload-api-socket-dir)")]
    Unusable(#[source] FsError),
    /// A look at the agent's directory does not end.
    #[error(
        "the file system of the agent's socket directory {} does not answer (--workload-api-socket-dir)", .0.display()
    )]
    Silent(PathBuf),
    /// Other looks at the agent's directory take so long that one more did not begin.
    #[error("the agent's socket directory {} is busy: other checks of it take too long (--workload-api-socket-dir)", .0.display())]
    Busy(PathBuf),
    /// A file system call failed.
    #[error(transparent)]
    File(#[from] FsError),
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] MountError),
}

impl SocketDirError {
    /// The finding that explains it.
    pub fn finding(&self) -> Option<&'static Check> {
        match self {
            SocketDirError::NoAgent(_) => Some(finding!("agent-directory-missing")),
            SocketDirError::Deleted(_) => Some(finding!("agent-directory-does-not-heal")),
            SocketDirError::Mount(error) => error.finding(),
            SocketDirError::OtherMount { .. }
            | SocketDirError::Writable(_)
            | SocketDirError::Unusable(_)
            | SocketDirError::Silent(_)
            | SocketDirError::Busy(_)
            | SocketDirError::File(_) => None,
        }
    }
}
