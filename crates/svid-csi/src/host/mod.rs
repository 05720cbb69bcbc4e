//! The machine: files, mounts, the clock, and the capabilities of the process.

pub(crate) mod beneath;
pub(crate) mod capabilities;
pub(crate) mod clock;
pub(crate) mod core_dumps;
pub(crate) mod data_root;
pub(crate) mod fsx;
pub(crate) mod inotify;
pub(crate) mod kernel;
pub(crate) mod mount;
pub(crate) mod resolver;
pub mod seal;
pub(crate) mod service_manager;
#[cfg(test)]
pub(crate) mod simulated;
