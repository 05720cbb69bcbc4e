//! Why a call of the kubelet failed.

use std::path::PathBuf;

use svid_csi_core::error::Class;
use svid_csi_core::files::RenderError;
use svid_csi_core::room::Refusal;
use svid_csi_core::volume::RequestMistakes;
use svid_csi_core::volume_id::VolumeId;

use super::adopt::Unfit;
use crate::delivery::socket_dir::SocketDirError;
use crate::delivery::workload_api::ListenError;
use crate::host::fsx::FsError;
use crate::host::mount::MountError;
use crate::source::SourceError;
use crate::source::cert_manager::CertManagerError;
use crate::telemetry::metrics::CallResult;

/// Why a volume could not be published, unpublished or checked.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The request is wrong.
    #[error("invalid request: {0}")]
    Invalid(#[from] RequestMistakes),
    /// The id belongs to another pod or path.
    #[error("volume {id} is already published at {}; unpublish it there first", .target.display())]
    Conflict {
        /// The volume.
        id: VolumeId,
        /// The path at which it is published.
        target: PathBuf,
    },
    /// The pod has too many volumes.
    #[error("the pod already has {0} volumes of this driver; one volume can hold everything")]
    TooMany(usize),
    /// It does not fit.
    #[error(transparent)]
    NoRoom(#[from] Refusal),
    /// No such volume is published there.
    #[error("volume {0} is not published")]
    Unknown(VolumeId),
    /// An earlier driver has mounted it, and it cannot be adopted.
    #[error(
        "the volume that csi-driver-spiffe mounted at {} was not adopted; its pod keeps the current files until the pod is re-created",
        .target.display()
    )]
    NotAdopted {
        /// Its mount point.
        target: PathBuf,
        /// Why it is not adopted.
        #[source]
        why: Unfit,
    },
    /// The driver is not configured for the volume.
    #[error("this driver runs without {0}")]
    NotConfigured(&'static str),
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A file could not be written.
    #[error("the volume's data or record cannot be written")]
    File(#[from] FsError),
    /// The agent's sockets cannot be delivered.
    #[error(transparent)]
    SocketDir(#[from] SocketDirError),
    /// The volume's socket cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The source has no identity.
    #[error("there is no identity for this volume yet")]
    Source(#[from] SourceError),
    /// The source issued no identity in time.
    #[error("there is no identity for this volume after {seconds} seconds{}", waits(.waits_for.as_deref()))]
    Slow {
        /// The time that was waited.
        seconds: u64,
        /// What the source waits for, if that is known.
        waits_for: Option<String>,
    },
    /// The files cannot be rendered.
    #[error("the volume's files cannot be created")]
    Render(#[from] RenderError),
    /// Another failure, after a change for the volume that still exists.
    #[error(transparent)]
    Begun(Box<VolumeError>),
    /// Its pod, or another process on the node, has changed the delivered files.
    #[error("the volume's files were changed ({0}), so they are not used again; requesting a new identity")]
    Changed(String),
    /// A pod could write into the volume.
    #[error(
        "the volume cannot be protected from its pod here: set readOnly: true in pod.spec.volumes[].csi, or run the driver with \
         CAP_LINUX_IMMUTABLE on Linux 6.0 or later, in no user namespace"
    )]
    Unsealed,
    /// A worker panicked.
    #[error("a worker failed")]
    Worker(#[from] tokio::task::JoinError),
}

fn waits(for_what: Option<&str>) -> String {
    for_what.map(|what| format!("; it waits for {what}")).unwrap_or_default()
}

impl VolumeError {
    /// The failure of a call that has changed something already. After a final code the kubelet assumes that nothing is
    /// left, and never unpublishes, so it must retry.
    pub(in crate::node) fn begun(self) -> Self {
        match self.class() {
            Class::NotYet | Class::Exhausted => self,
            _ => VolumeError::Begun(self.into()),
        }
    }

    /// Whether it only repeats the outcome of an earlier request.
    pub fn is_repeated(&self) -> bool {
        matches!(self, VolumeError::Source(SourceError::CertManager(CertManagerError::TooEarly { .. })))
    }

    /// Whether it means that the volume's identity was withdrawn.
    pub fn is_withdrawal(&self) -> bool {
        matches!(self, VolumeError::Source(SourceError::Withdrawn(_)))
    }

    /// Who has to act on it.
    pub(in crate::node) fn result(&self) -> CallResult {
        match self {
            VolumeError::Begun(error) => error.result(),
            VolumeError::Source(SourceError::NotConfigured(_) | SourceError::Worker(_)) => CallResult::Node,
            VolumeError::Source(SourceError::NoJwt(_)) => CallResult::Caller,
            VolumeError::Source(_)
            | VolumeError::Slow { .. }
            | VolumeError::SocketDir(
                SocketDirError::NoAgent(_) | SocketDirError::Deleted(_) | SocketDirError::Silent(_),
            ) => CallResult::Source,
            VolumeError::TooMany(_) | VolumeError::Unsealed | VolumeError::Render(RenderError::NoPassword) => {
                CallResult::Caller
            }
            error => match error.class() {
                Class::Invalid | Class::Conflict | Class::Missing => CallResult::Caller,
                _ => CallResult::Node,
            },
        }
    }

    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self {
            VolumeError::Invalid(_) => Class::Invalid,
            VolumeError::Conflict { .. } => Class::Conflict,
            VolumeError::TooMany(_)
            | VolumeError::NoRoom(_)
            | VolumeError::Listen(ListenError::Full(_))
            | VolumeError::Render(RenderError::TooLarge { .. }) => Class::Exhausted,
            VolumeError::NotConfigured(_) | VolumeError::NotAdopted { .. } | VolumeError::Unsealed => Class::Blocked,
            VolumeError::Mount(error) | VolumeError::SocketDir(SocketDirError::Mount(error)) => error.class(),
            VolumeError::File(error) | VolumeError::SocketDir(SocketDirError::File(error)) => error.class(),
            VolumeError::SocketDir(
                SocketDirError::NoAgent(_)
                | SocketDirError::Deleted(_)
                | SocketDirError::Silent(_)
                | SocketDirError::Busy(_),
            )
            | VolumeError::Slow { .. }
            | VolumeError::Begun(_)
            | VolumeError::Render(RenderError::NoPassword) => Class::NotYet,
            VolumeError::SocketDir(_) => Class::Blocked,
            VolumeError::Source(error) => error.class(),
            VolumeError::Unknown(_) => Class::Missing,
            VolumeError::Listen(ListenError::File(error)) => error.class(),
            VolumeError::Listen(_) | VolumeError::Changed(_) | VolumeError::Render(_) | VolumeError::Worker(_) => {
                Class::Internal
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_who_has_to_act() {
        let slow = || VolumeError::Slow { seconds: 1, waits_for: None };
        let full = || FsError::of("write", "/x".as_ref())(rustix::io::Errno::NOSPC);
        for (error, result) in [
            (slow(), CallResult::Source),
            (VolumeError::Begun(slow().into()), CallResult::Source),
            (VolumeError::Source(SourceError::Withdrawn(String::new())), CallResult::Source),
            (VolumeError::TooMany(8), CallResult::Caller),
            (VolumeError::Mount(MountError::NoParent("/x".into())), CallResult::Caller),
            (VolumeError::Mount(MountError::Foreign("/x".into())), CallResult::Node),
            (VolumeError::File(full()), CallResult::Node),
            (VolumeError::Begun(VolumeError::File(full()).into()), CallResult::Node),
            (VolumeError::NotConfigured("a data root"), CallResult::Node),
        ] {
            assert_eq!(error.result(), result, "{error}");
        }
    }
}
