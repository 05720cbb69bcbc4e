//! How the broker is reached.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use svid_csi_core::spiffe_id::SpiffeId;

/// The Broker API of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Where it is.
    pub endpoint: BrokerEndpoint,
    /// The SPIFFE ID the agent must show; without it, one under `/spire/agent/` in the driver's own trust domain.
    pub server_id: Option<SpiffeId>,
    /// The directory of the Workload API socket on which the driver gets an identity of its own; it may not exist yet.
    pub workload_api_dir: PathBuf,
}

/// Where a Broker API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerEndpoint {
    /// A Unix socket; it may not exist yet.
    Unix(PathBuf),
    /// An address.
    Tcp(SocketAddr),
}

impl fmt::Display for BrokerEndpoint {
    /// As the variable SPIFFE_BROKER_SOCKET has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerEndpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            BrokerEndpoint::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}
