//! The driver as a process, called by the small kubelet, with real mounts in mount namespaces of their own.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and writes files as others do"
)]

mod fixture;

mod adoption;
mod agent_directory;
mod agent_hangs;
mod broker;
mod capabilities;
mod cert_manager;
mod chaos;
mod clock;
mod consumers;
mod core_dumps;
mod descriptors;
mod doctor;
mod effects;
mod endpoints;
mod figures;
mod files;
mod formats;
mod health;
mod hostile;
mod in_cluster;
mod leaks;
mod lost_sockets;
mod metrics;
mod passthrough;
mod paths;
mod plans;
mod promtool;
mod races;
mod renew;
mod restart;
mod room;
mod roots;
mod service_manager;
mod startup_taint;
mod state;
mod stuck;
mod traces;
mod unpublish;
mod workload_api;
