//! Faults of requests without our annotation.

use super::csr::CsrFault;
use crate::quoted::Quoted;

/// Why a request that is not ours is denied nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnannotatedFault {
    /// Its CSR cannot be read, so it may hold anything.
    #[error("cannot determine whether the request asks for a SPIFFE identity: {0}")]
    Unreadable(CsrFault),
    /// It asks for an identity, but evades the rules for identities.
    #[error(
        "the request asks for the SPIFFE identity {uri} without the annotation spiffe.csi.cert-manager.io/identity"
    )]
    Spiffe {
        /// The name.
        uri: Quoted,
    },
    /// It asks an issuer of identities for something else, which may be a CA certificate.
    #[error(
        "the request's issuer is or was the issuer of SPIFFE identities, and the request has no annotation spiffe.csi.cert-manager.io/identity"
    )]
    Issuer,
}

impl UnannotatedFault {
    pub(in crate::approve) fn class(&self) -> &'static str {
        match self {
            UnannotatedFault::Unreadable(_) => "unannotated_unreadable",
            UnannotatedFault::Spiffe { .. } => "unannotated_spiffe",
            UnannotatedFault::Issuer => "unannotated_issuer",
        }
    }
}
