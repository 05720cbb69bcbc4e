//! svid-csi: SPIFFE identities for Kubernetes pods through a CSI volume.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as others do"))]

mod accept;
mod admin;
mod admin_client;
#[cfg(test)]
mod alerts;
pub mod approver;
pub mod authority;
mod backoff;
mod beneath;
mod capabilities;
#[cfg(test)]
mod captured_log;
pub mod channel;
pub mod cli;
mod clock;
mod core_dumps;
mod data_root;
mod delivery;
pub mod demo;
mod fsx;
mod inotify;
pub mod kube;
mod last_good;
mod metrics;
mod mount;
pub mod node;
mod pages;
pub mod reference;
pub mod report;
pub mod seal;
mod service_manager;
mod skipped;
mod source;
mod spiffe_tls;
mod status;
mod store;
mod tasks;
pub mod telemetry;
mod uds;
pub mod watch;
mod workload_header;
mod x509_message;
