//! Migrations from each predecessor while pods run. Stand-ins for the predecessors lay out volumes like them.

mod csi_driver_spiffe;
mod spiffe_csi;
