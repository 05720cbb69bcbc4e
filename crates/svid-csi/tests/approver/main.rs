//! The approver as a process, with a scripted API server.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and writes files as others do"
)]

mod cluster;
mod process;

mod another;
mod decisions;
mod effects;
mod failures;
mod issuer;
mod leaders;
mod pods;
mod promtool;
mod proxy;
mod start;
