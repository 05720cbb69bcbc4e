//! The scripted API server, seen by the client that the driver and the approver use.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod fixture;

mod admission;
mod errors;
mod faults;
mod objects;
mod watching;
