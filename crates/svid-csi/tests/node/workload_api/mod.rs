//! local-ca -> workload-api: a socket of the driver in every volume.

mod abuse;
pub(crate) mod client;
mod clients;
mod flood;
mod greedy;
mod held_bytes;
mod jwt;
mod life;
mod passed_descriptors;
mod privacy;
mod raw;
mod saved;
mod sds;
mod sockets;

use crate::fixture::Node;

pub(crate) const SOCKETS: &[&str] = &["--source=local-ca", "--delivery=workload-api", "--driver-name=demo.svid-csi"];
pub(crate) const ROOT: &[&str] =
    &["--data-root={dir}/root", "--trust-domain=example.org", "--admin-socket={dir}/admin.sock"];

/// A node whose running driver gives every pod a socket.
pub(crate) async fn node() -> Node {
    node_with(&[]).await
}

pub(crate) async fn node_with(more: &[&str]) -> Node {
    let mut node = Node::new(&[SOCKETS, ROOT, more]);
    node.start().await;
    node
}
