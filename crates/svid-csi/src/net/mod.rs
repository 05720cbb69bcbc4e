//! Connections: accepting them, Unix sockets, pages over HTTP.

pub(crate) mod accept;
pub(crate) mod exchange;
pub mod http2_authority;
pub(crate) mod pages;
pub(crate) mod pod_sockets;
pub(crate) mod probes;
pub(crate) mod uds;
pub mod unix_channel;
