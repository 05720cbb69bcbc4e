//! How pods receive their identity. A delivery never asks an issuer for anything.

pub mod files;
pub mod folders;
pub mod passwords;
mod private_bind;
pub mod shown;
pub mod socket_dir;
pub mod volume_folder;
pub mod workload_api;
