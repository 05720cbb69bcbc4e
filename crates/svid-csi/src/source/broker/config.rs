//! How to reach the broker.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use svid_csi_core::spiffe_id::SpiffeId;

/// The Broker API of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Its address.
    pub endpoint: BrokerEndpoint,
    /// The SPIFFE ID that the agent must present; without it, one under `/spire/agent/` in the driver's own trust
    /// domain.
    pub server_id: Option<SpiffeId>,
    /// The directory of the Workload API socket on which the driver gets its own identity; it may not exist yet.
    pub workload_api_dir: PathBuf,
}

/// The address of a Broker API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerEndpoint {
    /// A Unix socket; it may not exist yet.
    Unix(PathBuf),
    /// An address.
    Tcp(SocketAddr),
}

impl fmt::Display for BrokerEndpoint {
    /// In the form of the variable SPIFFE_BROKER_SOCKET.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerEndpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            BrokerEndpoint::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}
