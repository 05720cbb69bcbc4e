//! Explains why the Workload API does not send an update.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use svid_csi_core::quoted::Quoted;
use tonic::{Code, Status};

use crate::spiffe::x509_message::ReadError;
use crate::telemetry::report;

/// Why there is no update.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection failed.
    Connect(tonic::transport::Error),
    /// The call was answered with an error.
    Status(Status),
    /// The stream ended regularly.
    Closed,
    /// The message is not an identity.
    Refused(ReadError),
}

impl Trouble {
    /// The message for the log; `socket` is the socket of the call.
    pub(super) fn explain(&self, socket: &Path) -> String {
        let socket = socket.display();
        match self {
            Self::Connect(error) => match io_kind(error) {
                Some(io::ErrorKind::NotFound) => {
                    format!("there is no socket {socket}: is the volume mounted, and is the agent running?")
                }
                Some(io::ErrorKind::ConnectionRefused) => {
                    format!("no process is listening on {socket}: is the agent or the driver running?")
                }
                Some(io::ErrorKind::PermissionDenied) => format!("this user may not connect to {socket}"),
                _ => format!("cannot connect to {socket}: {}", report::chain(error)),
            },
            Self::Status(status) => format!("{} ({socket})", Explained(status)),
            Self::Closed => format!("the server ended the stream ({socket})"),
            Self::Refused(error) => format!("the response from {socket} is refused: {}", report::chain(error)),
        }
    }
}

/// A status with its meaning for a workload.
pub(super) struct Explained<'a>(pub(super) &'a Status);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.0.code() {
            Code::PermissionDenied => "no identity is registered for this workload, or it was withdrawn",
            Code::Unavailable => "the server is not ready, or has stopped",
            Code::InvalidArgument => "the server considers the request invalid",
            Code::Unimplemented => "the server does not support this call",
            Code::ResourceExhausted => "the server is overloaded, or this workload has reached a limit",
            Code::DeadlineExceeded => "the server did not answer in time",
            _ => "the server cannot answer",
        };
        write!(out, "{meaning}: {:?}", self.0.code())?;
        let message = self.0.message();
        if message.is_empty() { Ok(()) } else { write!(out, " {}", Quoted::new(message)) }
    }
}

/// The kind of the system's error, if it is the cause.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}
