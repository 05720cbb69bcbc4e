//! SPIFFE identities for Kubernetes pods through a CSI volume.
