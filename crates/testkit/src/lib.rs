//! Support for the tests of svid-csi: a place where mounting is safe, and the peers of a driver.
//!
//! The small kubelet and the Workload API server are those of `svid_csi::demo`. This crate adds the programs
//! `scripted-agent` and `workload`, for tests in which driver, agent and pod are separate processes, `attacker`, which is a
//! hostile container in those of the cluster, and `bench`, which
//! measures a release build of the driver (`just bench`) with the functions of [`measure`]. [`api_server`] is a
//! Kubernetes API server in memory, in which the test acts as cert-manager. [`agent`] is a SPIFFE agent with the Broker
//! API. [`proxy`] is a proxy between a client and a server. [`effects`] observes the system calls of the driver, and kills
//! it at one of them or lets one fail.

pub mod agent;
pub mod api_server;
pub mod effects;
mod hanging_fs;
mod json_line;
mod kill_rounds;
mod lingering;
pub mod measure;
mod mount_ns;
mod pod;
mod pod_token;
mod promtool;
pub mod proxy;
mod pulse;
mod test_ca;

pub use hanging_fs::HangingFs;
pub use json_line::JsonLines;
pub use kill_rounds::kill_rounds;
pub use lingering::{lingering, pass};
pub use mount_ns::{TestName, in_container_as, in_mount_ns, in_mount_ns_as, mount_ns_command};
pub use pod::pod;
pub use pod_token::{API_AUDIENCE, pod_token, tokens_json};
pub use promtool::promtool;
pub use pulse::Pulse;
pub use test_ca::{Flaw, Issued, TestCa};
