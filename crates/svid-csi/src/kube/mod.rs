//! The API server: connecting to it, reading and writing.

pub mod call;
pub mod cert_request;
pub mod client;
pub mod csi_driver;
pub mod error;
pub mod events;
pub mod lease;
pub mod one_object;
pub mod requester;
pub mod runtime_issuer;
#[cfg(test)]
pub(crate) mod scripted;
pub mod taint;
#[cfg(test)]
pub(crate) mod unreliable;
pub mod unusable;
pub mod watching;
