//! Shared code for SPIFFE: TLS by SPIFFE IDs, messages, and SVIDs from the view of a workload.

pub(crate) mod bundle_warnings;
pub(crate) mod handshake;
pub mod svid;
pub(crate) mod tls;
pub(crate) mod workload_header;
pub(crate) mod x509_message;
