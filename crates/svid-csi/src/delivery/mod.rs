//! How pods receive their identity. A delivery never sends requests to an issuer.

pub mod files;
pub mod folders;
pub mod passwords;
mod private_bind;
pub mod shown;
pub mod socket_dir;
pub mod volume_folder;
pub mod workload_api;
