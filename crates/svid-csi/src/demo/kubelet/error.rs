//! Errors between the kubelet and a driver.

use std::path::PathBuf;
use std::time::Duration;

use tonic::{Code, Status, transport};

use crate::host::fsx::FsError;

/// Why an operation of the kubelet failed.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// A folder or file under the kubelet's root.
    #[error(transparent)]
    File(#[from] FsError),
    /// No process accepts connections on a driver's socket.
    #[error("cannot connect to {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The error of the transport.
        #[source]
        source: transport::Error,
    },
    /// The driver answered with an error.
    #[error("{call} failed with {:?}: {}", status.code(), status.message())]
    Call {
        /// The RPC.
        call: &'static str,
        /// The driver's answer.
        status: Status,
    },
    /// The kubelet does not accept the registration of the driver.
    #[error("the driver at {} is not registered: {reason}", socket.display())]
    NotRegistered {
        /// The registration socket.
        socket: PathBuf,
        /// The reason.
        reason: String,
    },
    /// No registration socket appeared.
    #[error("{} does not exist after {waited:?}", socket.display())]
    NoSocket {
        /// The registration socket.
        socket: PathBuf,
        /// How long the kubelet waited for it.
        waited: Duration,
    },
}

impl KubeletError {
    /// Adds the name of the RPC to its status.
    pub(super) fn of(call: &'static str) -> impl Fn(Status) -> Self {
        move |status| Self::Call { call, status: as_grpc_go(status) }
    }

    /// The gRPC code of the driver's answer; `UNAVAILABLE` if there was no answer.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { status, .. } => Some(status.code()),
            Self::Connect { .. } => Some(Code::Unavailable),
            _ => None,
        }
    }

    /// Whether the volume may have been published nevertheless, so that its folders stay and the call is repeated
    /// (kubelet, `isFinalError`).
    pub fn is_uncertain(&self) -> bool {
        use Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable};
        matches!(self.code(), Some(Cancelled | DeadlineExceeded | Unavailable | ResourceExhausted | Aborted))
    }
}

/// A connection that breaks is UNAVAILABLE to the kubelet, whose library is grpc-go, and UNKNOWN to ours. What a driver has
/// answered has no source.
fn as_grpc_go(status: Status) -> Status {
    let is_answer = std::error::Error::source(&status).is_none();
    if is_answer || status.code() != Code::Unknown { status } else { Status::unavailable(status.message()) }
}
