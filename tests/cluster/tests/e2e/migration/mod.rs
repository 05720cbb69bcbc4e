//! From each predecessor to here while pods run. What stands in for the predecessors lays out volumes as they do.

mod csi_driver_spiffe;
mod spiffe_csi;
