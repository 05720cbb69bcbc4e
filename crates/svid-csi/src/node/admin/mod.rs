//! /livez, /readyz and /metrics over TCP; the status page, /status, /facts, /metrics and /renew on a Unix socket that only
//! root can reach.

pub(crate) mod client;
pub(crate) mod page;
mod readiness;
pub(crate) mod status;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Context;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::Deserialize;
use svid_csi_core::findings::facts::DriverFacts;
use tracing::warn;

use self::readiness::Readiness;
use super::kubelet::liveness::Liveness;
use super::volume::{Node, facts};
use crate::host::clock;
use crate::net::uds::{self, BindError};
use crate::net::{pages, probes};

/// The endpoints for monitoring and for administrators.
#[derive(Debug, Clone, Default)]
pub struct AdminConfig {
    /// The address of /metrics, /livez and /readyz.
    pub metrics_address: Option<SocketAddr>,
    /// The root-only Unix socket for the status page, /status, /facts, /metrics and /renew.
    pub socket: Option<PathBuf>,
}

/// Why the admin endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The socket cannot be bound.
    #[error("--admin-socket")]
    Socket(#[from] BindError),
}

/// Starts the configured endpoints. `setup` holds the facts that do not change while the driver runs.
///
/// # Errors
/// [`AdminError`]. An address that is in use only causes a warning, because the driver is more important than its
/// metrics.
pub(crate) fn start(
    node: &Arc<Node>,
    config: &AdminConfig,
    setup: Arc<DriverFacts>,
    liveness: Liveness,
) -> Result<Readiness, AdminError> {
    let readiness = Readiness::new(node, &setup);
    if let Some(address) = config.metrics_address {
        let pages = probes::check("/livez", liveness, livez)
            .merge(probes::check("/readyz", readiness.clone(), Readiness::check))
            .merge(probes::metrics(node.clone(), metrics));
        serve_tcp(node, address, pages);
    }
    if let Some(path) = &config.socket {
        let (listener, bound) = uds::bind_private(path)?;
        let of_facts = Router::new()
            .route("/", get(status_in_html))
            .route("/facts", get(facts_page))
            .with_state((node.clone(), setup));
        let pages = Router::new()
            .route("/status", get(status_page))
            .route("/renew", post(renew))
            .with_state(node.clone())
            .merge(of_facts)
            .merge(probes::metrics(node.clone(), metrics));
        let socket = (listener, bound);
        let poll = move |cx: &mut Context<'_>| {
            let (listener, _file) = &socket;
            listener.poll_accept(cx)
        };
        pages::serve(&node.tasks, "admin socket", poll, pages);
    }
    Ok(readiness)
}

fn serve_tcp(node: &Arc<Node>, address: SocketAddr, pages: Router) {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    });
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => return warn!(%address, %error, "--metrics-address: cannot listen; there will be no metrics"),
    };
    probes::serve(&node.tasks, "--metrics-address", "/metrics, /livez and /readyz", listener, pages);
}

async fn livez(liveness: Liveness) -> Result<(), String> {
    let checked = liveness.check().await;
    checked.inspect_err(|trouble| warn!(trouble, "/livez fails: the kubelet cannot reach this driver, or it is stuck"))
}

async fn metrics(node: Arc<Node>) -> String {
    node.reports.metrics.encode(&status::snapshot(&node).await)
}

async fn status_page(State(node): State<Arc<Node>>) -> impl IntoResponse {
    axum::Json(status::status(&node).await)
}

async fn facts_page(State((node, setup)): State<(Arc<Node>, Arc<DriverFacts>)>) -> impl IntoResponse {
    let mut facts = facts::facts(&node, &setup).await;
    facts.pods_reach_host = tokio::task::block_in_place(|| facts::reaches_host(&facts.pods_dir));
    axum::Json(facts)
}

async fn status_in_html(State((node, setup)): State<(Arc<Node>, Arc<DriverFacts>)>) -> impl IntoResponse {
    let facts = facts::facts(&node, &setup).await;
    page::response(tokio::task::block_in_place(|| page::html(&facts, None, clock::now())))
}

/// The volumes to renew: `?pod=NAMESPACE/NAME`, or all of them.
#[derive(Debug, Deserialize)]
struct Which {
    pod: Option<String>,
}

async fn renew(State(node): State<Arc<Node>>, Query(which): Query<Which>) -> impl IntoResponse {
    let renewing = status::renew(&node, which.pod.as_deref()).await;
    let code = if renewing == 0 && which.pod.is_some() { StatusCode::NOT_FOUND } else { StatusCode::ACCEPTED };
    (code, axum::Json(serde_json::json!({ "renewing": renewing })))
}
