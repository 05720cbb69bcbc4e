//! How pods receive their identity. A delivery never asks an issuer for anything.

pub mod files;
mod links;
pub mod socket_dir;
mod views;
mod watch;
