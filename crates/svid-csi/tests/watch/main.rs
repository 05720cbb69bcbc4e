//! `svid-csi watch` as a process, with an agent and folders.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and writes files as others do"
)]

mod fixture;

mod actions;
mod files;
mod init;
mod socket;
