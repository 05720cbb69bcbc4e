//! Why a call of the kubelet failed.

use std::io;
use std::path::PathBuf;

use svid_csi_core::error::Class;
use svid_csi_core::files::RenderError;
use svid_csi_core::finding;
use svid_csi_core::findings::{self, Check};
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
                SocketDirError::NoAgent(_)
                | SocketDirError::Deleted(_)
                | SocketDirError::Silent(_)
                | SocketDirError::Busy(_),
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

    /// The finding of `svid-csi doctor` that explains it.
    pub fn finding(&self) -> Option<&'static Check> {
        match self {
            VolumeError::NoRoom(refusal) => refusal.finding(),
            VolumeError::Mount(error) => error.finding(),
            VolumeError::File(error) | VolumeError::Listen(ListenError::File(error)) => of_data(error),
            VolumeError::SocketDir(error) => error.finding(),
            VolumeError::Listen(ListenError::Full(_)) => Some(finding!("open-files-nearly-used")),
            VolumeError::Source(error) => error.finding(),
            VolumeError::Slow { waits_for, .. } => waits_for.as_deref().map(findings::of_waiting),
            VolumeError::Begun(error) => error.finding(),
            VolumeError::Changed(_) => Some(finding!("identity-differs")),
            VolumeError::Invalid(_)
            | VolumeError::Conflict { .. }
            | VolumeError::TooMany(_)
            | VolumeError::Unknown(_)
            | VolumeError::NotAdopted { .. }
            | VolumeError::NotConfigured(_)
            | VolumeError::Listen(ListenError::Listen { .. })
            | VolumeError::Render(_)
            | VolumeError::Unsealed
            | VolumeError::Worker(_) => None,
        }
    }
}

/// The finding about the tmpfs with all volumes.
fn of_data(error: &FsError) -> Option<&'static Check> {
    match error.source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(finding!("data-nearly-full")),
        io::ErrorKind::ReadOnlyFilesystem => Some(finding!("data-read-only")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use svid_csi_core::findings::{Category, checks};
    use svid_csi_core::identity::Rejection;
    use svid_csi_core::room::Bound;

    use super::*;
    use crate::kube::requester::CreateError;
    use crate::source::broker::BrokerError;
    use crate::source::local_ca::LocalCaError;

    /// Findings that no failed publish names, each with the reason.
    const NAMED_BY_NO_PUBLISH: [(&str, &str); 22] = [
        ("pods-folder-not-shared", "the driver cannot see that its mounts do not reach the host"),
        ("volume-not-mounted", "a publish mounts it again"),
        ("agent-directory-replaced", "a publish mounts the new one"),
        ("agent-directory-empty", "the pod starts, and waits for the agent itself"),
        ("agent-socket-dead", "the pod starts, and waits for the agent itself"),
        ("agent-socket-closed", "the pod starts"),
        ("agent-link-dangling", "the pod starts"),
        ("volume-of-gone-pod", "its pod is gone"),
        ("data-not-on-tmpfs", "the driver looks for that at its startup"),
        ("data-may-be-swapped", "a publish succeeds"),
        ("data-ends-with-container", "a publish succeeds"),
        ("data-left-over", "a publish succeeds"),
        ("volume-left-alone", "it is found at the startup, whose log lines name it"),
        ("broker-not-connected", "it is about the node, whose event names it; the volume has agent-not-answering"),
        ("identity-expired", "it concerns running pods"),
        ("identity-overdue", "it concerns running pods, whose events name it"),
        ("identity-untrusted", "the pod starts, and its event names it"),
        ("identity-not-delivered", "it concerns running pods"),
        ("key-does-not-match", "it concerns running pods"),
        ("key-readable-by-all", "it concerns running pods"),
        ("bundle-ca-expired", "the other certificates are used"),
        ("bundle-ca-expires-soon", "a publish succeeds"),
    ];

    fn system(errno: rustix::io::Errno) -> VolumeError {
        VolumeError::File(FsError::of("write", "/x".as_ref())(errno))
    }

    fn no_room(bound: Bound, of: &'static str) -> VolumeError {
        VolumeError::NoRoom(Refusal { bound, of, need: 2, allowed: 1, size: 3 })
    }

    fn waiting(what: &str) -> VolumeError {
        VolumeError::Slow { seconds: 1, waits_for: Some(what.to_owned()) }
    }

    /// One error for each finding of a failed publish.
    fn failed_publishes() -> Vec<(&'static str, VolumeError)> {
        let cert_manager = |error| VolumeError::Source(SourceError::CertManager(error));
        let broker = |error| VolumeError::Source(SourceError::Broker(error));
        let refused = || Arc::new(Rejection::EmptyChain.into());
        let denied = CertManagerError::Create { namespace: "shop".to_owned(), source: CreateError::Unauthorized };
        vec![
            ("volume-covered", VolumeError::Mount(MountError::Foreign("/x".into()))),
            ("agent-directory-missing", SocketDirError::NoAgent("/x".into()).into()),
            ("agent-directory-does-not-heal", SocketDirError::Deleted("/x".into()).into()),
            ("data-nearly-full", system(rustix::io::Errno::NOSPC)),
            ("data-nearly-full", no_room(Bound::Node, "bytes")),
            ("data-inodes-nearly-used", no_room(Bound::Node, "inodes")),
            ("data-read-only", system(rustix::io::Errno::ROFS)),
            ("identity-differs", VolumeError::Changed("x".to_owned())),
            ("identity-missing", VolumeError::Source(SourceError::Withdrawn("x".to_owned()))),
            ("identity-refused", broker(BrokerError::Refused(refused()))),
            ("identity-refused", VolumeError::Source(Rejection::EmptyChain.into())),
            ("agent-not-answering", broker(BrokerError::Unavailable("x".to_owned()))),
            ("no-registration-entry", waiting("a registration entry that matches the pod")),
            ("request-not-approved", waiting("CertificateRequest x, which has not been approved or denied yet")),
            ("request-not-issued", waiting("CertificateRequest x, which is approved and waits for its issuer")),
            ("volume-waiting", waiting("its turn")),
            ("requests-not-watched", cert_manager(CertManagerError::NoLink("x".to_owned()))),
            ("no-service-account-token", cert_manager(CertManagerError::NoToken)),
            (
                "trust-bundle-missing",
                cert_manager(CertManagerError::NoBundle { source_name: "x".to_owned(), trouble: None }),
            ),
            ("request-failed", VolumeError::Begun(cert_manager(denied).into())),
            ("roots-not-shared", VolumeError::Source(SourceError::LocalCa(LocalCaError::UnknownRoots))),
            ("local-ca-not-loaded", VolumeError::Source(SourceError::LocalCa(LocalCaError::NotLoaded))),
        ]
    }

    #[test]
    fn a_failed_publish_names_its_finding() {
        let mut named = BTreeSet::new();
        for (id, error) in failed_publishes() {
            assert_eq!(error.finding().map(|check| check.id), Some(id), "{error}");
            named.insert(id);
        }
        for bound in [Bound::Volume, Bound::Pod, Bound::Namespace] {
            assert!(no_room(bound, "bytes").finding().is_none(), "the node has room for others");
        }
        let exceptions: BTreeSet<_> = NAMED_BY_NO_PUBLISH.iter().map(|(id, _)| *id).collect();
        assert!(exceptions.is_disjoint(&named), "a publish names one of the exceptions");
        // The kubelet calls no driver that is not registered.
        let of_publishes = [Category::Mounts, Category::Data, Category::Source, Category::Identity];
        let expected: BTreeSet<_> = checks()
            .filter(|check| of_publishes.contains(&check.category) && !check.explanation.starts_with("Only with --"))
            .map(|check| check.id)
            .collect();
        assert_eq!(named.union(&exceptions).copied().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn a_failure_shows_who_has_to_act() {
        let slow = || VolumeError::Slow { seconds: 1, waits_for: None };
        let full = || FsError::of("write", "/x".as_ref())(rustix::io::Errno::NOSPC);
        for (error, result) in [
            (slow(), CallResult::Source),
            (VolumeError::Begun(slow().into()), CallResult::Source),
            (SocketDirError::Busy("/x".into()).into(), CallResult::Source),
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
