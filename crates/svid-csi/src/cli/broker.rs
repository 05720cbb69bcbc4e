//! The flags of source broker.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use svid_csi_core::spiffe_id::SpiffeId;

use super::mistakes::FlagMistakes;
use super::{Environment, values};
use crate::source::broker::config::{BrokerConfig, BrokerEndpoint};

/// The variable with the address of the Broker API if no flag sets it (SPIFFE Broker Endpoint, section 4).
const VARIABLE: &str = "SPIFFE_BROKER_SOCKET";
const NAMES: [&str; 3] = ["broker-socket", "broker-address", "broker-server-id"];

#[derive(Debug, Args)]
#[command(next_help_heading = "Source broker")]
pub(super) struct BrokerFlags {
    /// The Unix socket of the agent's Broker API; it may not exist yet. Default: the variable SPIFFE_BROKER_SOCKET.
    #[arg(long, value_name = "SOCKET", value_parser = values::socket)]
    broker_socket: Option<PathBuf>,
    /// The TCP address of the agent's Broker API, instead of a socket.
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    broker_address: Option<SocketAddr>,
    /// The SPIFFE ID that the agent must present. Default: any under /spire/agent/ in the driver's own trust domain.
    #[arg(long, value_name = "SPIFFE-ID", value_parser = server_id)]
    broker_server_id: Option<SpiffeId>,
}

impl BrokerFlags {
    /// The names of all these flags.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter()
    }

    /// Combines these flags.
    pub(super) fn config(
        self,
        workload_api_dir: Option<PathBuf>,
        environment: Environment<'_>,
        mistakes: &mut FlagMistakes,
    ) -> Option<BrokerConfig> {
        if workload_api_dir.is_none() {
            let because = "the driver gets its own identity there and presents it to the broker";
            mistakes.missing("workload-api-socket-dir", because);
        }
        let endpoint = match (self.broker_socket, self.broker_address) {
            (Some(_), Some(_)) => {
                mistakes.add("broker-address", "conflicts with --broker-socket; leave out one of the two");
                None
            }
            (Some(socket), None) => Some(BrokerEndpoint::Unix(socket)),
            (None, Some(address)) => Some(BrokerEndpoint::Tcp(address)),
            (None, None) => inherited(environment, mistakes),
        };
        let (endpoint, workload_api_dir) = (endpoint?, workload_api_dir?);
        Some(BrokerConfig { endpoint, server_id: self.broker_server_id, workload_api_dir })
    }
}

fn inherited(environment: Environment<'_>, mistakes: &mut FlagMistakes) -> Option<BrokerEndpoint> {
    let value = environment(VARIABLE).map(|value| value.to_string_lossy().into_owned());
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        if !mistakes.given("broker-address") {
            let fix =
                format!("give the socket of the agent's Broker API, or --broker-address, or the variable {VARIABLE}");
            mistakes.missing("broker-socket", fix);
        }
        return None;
    };
    endpoint(&value).map_err(|problem| mistakes.stray(VARIABLE, problem)).ok()
}

/// `unix:///path/to.sock` or `tcp://127.0.0.1:8443`, and no other form (SPIFFE Broker Endpoint, section 4).
fn endpoint(uri: &str) -> Result<BrokerEndpoint, String> {
    let wrong = || format!("{uri:?} is not an endpoint; write unix:///path/to.sock or tcp://127.0.0.1:8443");
    if let Some(address) = uri.strip_prefix("tcp://") {
        return address.parse().map(BrokerEndpoint::Tcp).map_err(|_| wrong());
    }
    match uri.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') && !path.contains(['?', '#']) => {
            values::socket(path).map(BrokerEndpoint::Unix)
        }
        _ => Err(wrong()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix("tcp://").unwrap_or(text);
    bare.parse().map_err(|_| format!("{text:?} is not an IP address with a port; write it like 127.0.0.1:8443"))
}

fn server_id(text: &str) -> Result<SpiffeId, String> {
    let id = SpiffeId::parse(text).map_err(|error| {
        format!("{text:?}: {error}; write the agent's ID, like spiffe://example.org/spire/agent/node-1")
    })?;
    if id.path().is_empty() {
        return Err(format!("{text:?} names a trust domain but no agent; write the agent's whole ID, or leave it out"));
    }
    Ok(id)
}
