//! /livez and /readyz, and /metrics, over TCP.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::metrics::{Metrics, ScrapedValues};
use super::queue::Queue;
use crate::kube::lease::Leadership;
use crate::net::probes;

/// The address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Every interface, with that port.
    Everywhere(u16),
    /// That address.
    At(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere(port) => write!(f, ":{port}"),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

impl Listen {
    /// Whether the system chooses the port.
    pub(crate) fn is_any_port(self) -> bool {
        match self {
            Self::Everywhere(port) => port == 0,
            Self::At(address) => address.port() == 0,
        }
    }

    /// Binds it; every interface means those of both IP versions, if the machine has both.
    pub(super) async fn bind(self) -> io::Result<TcpListener> {
        match self {
            Self::At(address) => TcpListener::bind(address).await,
            Self::Everywhere(port) => {
                let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
                match TcpListener::bind(both).await {
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                        TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await
                    }
                    bound => bound,
                }
            }
        }
    }
}

/// The data of the pages.
#[derive(Debug, Clone)]
pub(super) struct EndpointState {
    pub(super) metrics: Arc<Metrics>,
    pub(super) queue: Arc<Queue>,
    pub(super) leadership: Leadership,
    pub(super) synced: watch::Receiver<bool>,
}

impl EndpointState {
    pub(super) fn probes(&self) -> Router {
        probes::check("/livez", (), livez).merge(probes::check("/readyz", self.synced.clone(), readyz))
    }

    pub(super) fn metrics(&self) -> Router {
        probes::metrics(self.clone(), metrics)
    }
}

async fn livez((): ()) -> Result<(), String> {
    Ok(())
}

async fn readyz(synced: watch::Receiver<bool>) -> Result<(), String> {
    let synced = *synced.borrow();
    synced.then_some(()).ok_or_else(|| "the list of certificate requests is not complete yet".to_owned())
}

async fn metrics(state: EndpointState) -> String {
    state.metrics.encode(ScrapedValues {
        pending: state.queue.len(),
        is_leading: state.leadership.is_leading(),
        is_synced: *state.synced.borrow(),
    })
}
