//! The scripted agent serves the Broker API as SPIRE does, to a client that is not ours.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod client;

mod broker;
mod wire;
mod workload;
