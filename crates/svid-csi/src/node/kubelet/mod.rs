//! What the kubelet calls: the CSI services, the registration, and the sockets they are on.

pub(super) mod csi;
pub(super) mod door;
pub(super) mod liveness;
pub(super) mod patience;
pub(super) mod registrar;
