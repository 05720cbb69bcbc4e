//! The driver as a process, called by the small kubelet, with real mounts in mount namespaces of their own.

mod fixture;

mod endpoints;
mod files;
mod passthrough;
mod paths;
mod restart;
