//! The kubelet's side: the CSI services, the registration, and their sockets.

pub(crate) mod config;
pub(super) mod csi;
mod csi_messages;
pub(super) mod door;
pub(super) mod liveness;
pub(super) mod patience;
pub(super) mod registrar;
mod spans;
