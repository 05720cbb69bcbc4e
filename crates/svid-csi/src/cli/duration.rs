//! Durations on the command line are Go's, as in the predecessors' manifests.

pub(super) use svid_csi_core::go_duration::parse;
