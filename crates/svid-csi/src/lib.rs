//! svid-csi: SPIFFE identities for Kubernetes pods through a CSI volume.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as others do"))]

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
