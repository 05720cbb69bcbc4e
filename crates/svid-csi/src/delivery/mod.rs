//! How pods receive their identity. A delivery never asks an issuer for anything.

pub mod files;
pub mod folders;
mod links;
pub mod passwords;
pub mod socket_dir;
mod views;
mod watch;
pub mod workload_api;
