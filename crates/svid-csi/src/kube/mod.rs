//! The API server: reaching it, what is read from it, and what is written to it.

pub mod cert_request;
pub mod client;
pub mod events;
pub mod one_object;
pub mod runtime_issuer;
#[cfg(test)]
pub(crate) mod scripted;
