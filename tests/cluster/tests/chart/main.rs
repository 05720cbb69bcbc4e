//! The Helm chart, the manifests rendered from it and the examples. Needs Go and Python, and no cluster: `just chart-test`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]
#![allow(unreachable_pub, reason = "nothing is reachable from outside a test program")]

mod documented;
mod examples;
mod flags;
mod folders;
mod helm;
mod images;
mod injection;
mod manifests;
mod mistakes;
mod network;
mod objects;
mod permissions;
mod predecessor;
mod profiles;
mod renderings;
mod schemas;
