//! /livez, /readyz and /metrics, which the driver and the approver serve alike.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::info;

use super::pages;
use crate::tasks::Tasks;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A page that answers `ok`, or 503 with what is wrong.
pub(crate) fn check<S, F>(path: &str, state: S, check: fn(S) -> F) -> Router
where
    S: Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let page = move || async move {
        match check(state).await {
            Ok(()) => (StatusCode::OK, "ok".to_owned()),
            Err(trouble) => (StatusCode::SERVICE_UNAVAILABLE, trouble),
        }
    };
    Router::new().route(path, get(page))
}

/// The page /metrics, encoded at each scrape.
pub(crate) fn metrics<S, F>(state: S, encode: fn(S) -> F) -> Router
where
    S: Clone + Send + Sync + 'static,
    F: Future<Output = String> + Send + 'static,
{
    let page = move || async move { ([(header::CONTENT_TYPE, OPENMETRICS)], encode(state).await) };
    Router::new().route("/metrics", get(page))
}

/// Serves `pages` until the process stops. `name` names the task, and `served` the pages in the log.
pub(crate) fn serve(tasks: &Tasks, name: &'static str, served: &str, listener: TcpListener, pages: Router) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving {served}");
    }
    pages::serve(tasks, name, move |cx| listener.poll_accept(cx), pages);
}
