//! Why the embedded authority cannot be used.

use std::path::PathBuf;

use svid_csi_core::ca::{CaError, LoadError, UnionError};
use svid_csi_core::error::Class;
use svid_csi_core::finding;
use svid_csi_core::findings::Check;
use svid_csi_core::identity::KeyError;
use svid_csi_core::jwt::JwtSignError;

use crate::host::fsx::FsError;

/// Why the embedded authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalCaError {
    /// The certificate and key on disk are not a valid authority.
    #[error("the local CA in {} cannot be used; repair it, or remove ca.crt and ca.key to create a new one", .folder.display())]
    Unusable {
        /// Its folder.
        folder: PathBuf,
        /// The problem.
        #[source]
        source: LoadError,
    },
    /// Only one of certificate and key exists.
    #[error("{} holds only one of ca.crt and ca.key; restore the other, or remove both to create a new CA", .0.display())]
    Half(PathBuf),
    /// Its own root cannot be used.
    #[error("the local CA's certificate is not a valid trust bundle")]
    Trust(#[from] UnionError),
    /// Its files cannot be read or written for now.
    #[error("the local CA's files cannot be read or written for now; retrying")]
    NotLoaded,
    /// It is not known which other roots pods trust.
    #[error(
        "the roots of other nodes are not known: those stored beside the CA cannot be read, and the ConfigMap of --local-ca-roots has not been read yet"
    )]
    UnknownRoots,
    /// Signing failed.
    #[error("the certificate cannot be signed")]
    Sign(#[from] CaError),
    /// The key of JWT-SVIDs on disk cannot be used.
    #[error("{} cannot be used; repair it, or remove it to create a new key (tokens signed with the old one then fail)", .path.display())]
    JwtKey {
        /// Its path.
        path: PathBuf,
        /// The problem.
        #[source]
        source: KeyError,
    },
    /// A JWT-SVID could not be signed.
    #[error("the JWT-SVID cannot be signed")]
    SignJwt(#[from] JwtSignError),
    /// No key could be generated.
    #[error("cannot generate a key")]
    Key(#[from] KeyError),
    /// A file system call failed.
    #[error(transparent)]
    File(#[from] FsError),
    /// The system provides no randomness.
    #[error("the system's random number generator failed")]
    Random,
    /// The signing task panicked.
    #[error("the signing task failed")]
    Task(#[from] tokio::task::JoinError),
}

impl LocalCaError {
    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self {
            LocalCaError::UnknownRoots | LocalCaError::NotLoaded => Class::NotYet,
            _ => Class::Internal,
        }
    }

    /// The finding that explains it.
    pub fn finding(&self) -> Option<&'static Check> {
        match self {
            LocalCaError::UnknownRoots => Some(finding!("roots-not-shared")),
            LocalCaError::NotLoaded => Some(finding!("local-ca-not-loaded")),
            LocalCaError::Unusable { .. }
            | LocalCaError::Half(_)
            | LocalCaError::Trust(_)
            | LocalCaError::Sign(_)
            | LocalCaError::JwtKey { .. }
            | LocalCaError::SignJwt(_)
            | LocalCaError::Key(_)
            | LocalCaError::File(_)
            | LocalCaError::Random
            | LocalCaError::Task(_) => None,
        }
    }
}
