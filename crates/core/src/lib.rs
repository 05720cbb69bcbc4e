//! The pure rules of svid-csi: requests for volumes, the acceptance of identities, renewal, and recovery after a
//! restart.
//!
//! Nothing here accesses a file, a socket, a clock or a task: time and observations are arguments.

pub mod approve;
mod attributes;
pub mod bundle_document;
pub mod bundle_map;
pub mod ca;
pub mod cert_request;
mod der;
pub mod error;
pub mod files;
pub mod findings;
pub mod go_duration;
pub mod hint;
pub mod http2_authority;
pub mod identity;
pub mod jwt;
mod pem_text;
pub mod pkcs12;
pub mod plan;
pub mod pod;
pub mod pod_token;
mod publish_request;
pub mod quoted;
pub mod redact;
pub mod renew;
pub mod renewal;
pub mod request;
pub mod room;
pub mod runtime_issuer;
pub mod secret;
mod signer;
pub mod spiffe_id;
pub mod state;
pub mod target;
pub mod unix_time;
pub mod volume;
pub mod volume_id;
pub mod x509_context;
