//! How pods receive their identity. A delivery never asks an issuer for anything.

mod agent_folder;
pub mod files;
pub mod folders;
mod links;
pub mod passwords;
pub mod shown;
pub mod socket_dir;
mod stable;
mod views;
pub mod volume_folder;
mod watch;
pub mod workload_api;
