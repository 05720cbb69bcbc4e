//! How pods receive their identity. A delivery never asks an issuer for anything.

mod agent_folder;
pub mod files;
pub mod folders;
mod links;
pub mod passwords;
pub mod socket_dir;
mod stable;
mod views;
mod watch;
pub mod workload_api;
