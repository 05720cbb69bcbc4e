//! local-ca -> workload-api: a socket of the driver in every volume.

mod client;
mod sockets;
