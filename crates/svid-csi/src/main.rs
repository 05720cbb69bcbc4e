//! The `svid-csi` binary.
fn main() {}
