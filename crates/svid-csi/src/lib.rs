//! svid-csi: SPIFFE identities for Kubernetes pods through a CSI volume.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as others do"))]

#[cfg(all(feature = "fuzzing", not(debug_assertions)))]
compile_error!("the feature fuzzing is only for the targets in fuzz/: what is shipped is built without it");

pub mod approver;
mod backoff;
pub mod cli;
mod delivery;
pub mod demo;
mod doctor;
mod followed_value;
pub mod host;
pub mod kube;
pub mod net;
pub mod node;
mod source;
pub mod spiffe;
mod tasks;
pub mod telemetry;
pub mod traces;
pub mod watch;

/// What the targets in fuzz/ need beyond what is public.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::approver::fuzzing as approver;
    pub use crate::delivery::workload_api::fuzzing as workload_api;
    pub use crate::host::mount::{InspectedFile, InspectedMount, ListedMount, Propagation, is_root_of_any, mounts};
    pub use crate::node::names_volume;
    pub use crate::source::cert_manager::fuzzing as requests;
    pub use crate::spiffe::x509_message::{MOST_BYTES, bundles, read, read_for_workload, read_own, svids};
}
