//! How pods receive their identity. A delivery never sends requests to an issuer.

pub mod files;
pub mod folder_content;
pub mod folders;
pub mod passwords;
mod private_bind;
pub mod socket_dir;
pub mod volume_folder;
pub mod workload_api;
