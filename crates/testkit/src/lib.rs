//! What the tests of svid-csi need beside it: a place where mounting is safe, and the peers of a driver.
//!
//! The small kubelet and the Workload API server are `svid_csi::demo`'s; this crate adds two programs that run on
//! their own, `scripted-agent` and `workload`, for tests in which driver, agent and pod are separate processes, and
//! `bench`, which measures a release build of the driver (`just bench`). [`measure`] is what its figures are made of.
//! [`api_server`] is a Kubernetes API server in memory, with cert-manager played by the test. [`agent`] is a SPIFFE agent
//! with the Broker API. [`proxy`] is one between a client and a server.

pub mod agent;
pub mod api_server;
mod json_line;
pub mod measure;
mod mount_ns;
mod pod;
mod pod_token;
pub mod proxy;
mod pulse;
mod test_ca;

pub use json_line::JsonLines;
pub use mount_ns::{TestName, in_mount_ns, in_mount_ns_as, mount_ns_command};
pub use pod::pod;
pub use pod_token::{API_AUDIENCE, pod_token, tokens_json};
pub use pulse::Pulse;
pub use test_ca::{Flaw, Issued, TestCa};
