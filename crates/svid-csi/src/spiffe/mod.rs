//! Shared by all that speaks SPIFFE: TLS by SPIFFE IDs, messages, SVIDs as a workload sees them.

pub(crate) mod skipped;
pub mod svid;
pub(crate) mod tls;
pub(crate) mod workload_header;
pub(crate) mod x509_message;
