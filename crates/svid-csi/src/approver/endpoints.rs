//! /livez and /readyz, and /metrics, over TCP.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use super::metrics::{Metrics, Snapshot};
use super::queue::Queue;
use crate::kube::lease::Leadership;
use crate::net::pages;
use crate::tasks::Tasks;

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
pub(super) struct Shown {
    pub(super) metrics: Arc<Metrics>,
    pub(super) queue: Arc<Queue>,
    pub(super) leadership: Leadership,
    pub(super) synced: watch::Receiver<bool>,
}

impl Shown {
    pub(super) fn probes(&self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok" }))
            .route("/readyz", get(readyz).with_state(self.synced.clone()))
    }

    pub(super) fn metrics(&self) -> Router {
        Router::new().route("/metrics", get(metrics).with_state(self.clone()))
    }
}

/// Serves pages until the process stops.
pub(super) fn serve(tasks: &Tasks, name: &'static str, listener: TcpListener, pages: Router) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving {name}");
    }
    pages::serve(tasks, name, move |cx| listener.poll_accept(cx), pages);
}

async fn readyz(State(synced): State<watch::Receiver<bool>>) -> impl IntoResponse {
    if *synced.borrow() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the list of certificate requests is not complete yet")
    }
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let now = Snapshot {
        pending: shown.queue.len(),
        is_leading: shown.leadership.is_leading(),
        is_synced: *shown.synced.borrow(),
    };
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], shown.metrics.encode(now))
}
