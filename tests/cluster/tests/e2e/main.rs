//! Tests on a real Kubernetes node: `just cluster-test` starts it and runs them.
//!
//! Each test uses its own namespace and its own driver name, so that they run concurrently.
#![allow(unreachable_pub, reason = "nothing is reachable from outside a test program")]

use svid_csi_cluster::eventually;

mod agent;
mod clients;
mod daemonset;
mod mountpoints;
mod pods;
mod registrar;
mod report;
mod scene;

mod files;
mod harness;
mod hostile;
mod install;
mod migration;
mod node_features;
mod predecessors;
mod read_only;
mod restart;
mod sanity;
mod socket;
mod spire;
mod storage_health;
mod storage_suite;
mod workload_api;

mod with_cert_manager;
