//! /livez, /readyz and /metrics, which the driver and the approver serve alike.

use std::collections::HashSet;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::info;

use super::pages;
use crate::tasks::Tasks;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

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

/// The page /metrics, encoded at each scrape: in the OpenMetrics text format if the scraper accepts it, otherwise in
/// Prometheus's own, which every scraper reads.
pub(crate) fn metrics<S, F>(state: S, encode: fn(S) -> F) -> Router
where
    S: Clone + Send + Sync + 'static,
    F: Future<Output = String> + Send + 'static,
{
    let page = move |headers: HeaderMap| async move {
        let page = encode(state).await;
        let (kind, page) =
            if accepts_openmetrics(&headers) { (OPENMETRICS, page) } else { (TEXT, in_text_format(&page)) };
        ([(header::CONTENT_TYPE, kind)], page)
    };
    Router::new().route("/metrics", get(page))
}

fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.into_iter().any(|value| value.contains("application/openmetrics-text"))
}

/// The page in Prometheus's text format, where the family of a counter has the name of its samples.
fn in_text_format(openmetrics: &str) -> String {
    let types = openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<_> = types.filter_map(|line| line.strip_suffix(" counter")).collect();
    let mut page = String::with_capacity(openmetrics.len() + 1024);
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword), Some(name), Some(rest)) if counters.contains(name) => {
                page.extend(["# ", keyword, " ", name, "_total ", rest]);
            }
            _ => page.push_str(line),
        }
        page.push('\n');
    }
    page
}

/// Serves `pages` until the process stops. `name` names the task, and `served` the pages in the log.
pub(crate) fn serve(tasks: &Tasks, name: &'static str, served: &str, listener: TcpListener, pages: Router) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving {served}");
    }
    pages::serve(tasks, name, move |cx| listener.poll_accept(cx), pages);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_renamed_and_nothing_else() {
        let page = "# HELP a Calls to a.\n# TYPE a counter\na_total{x=\"# TYPE a\"} 1\n\
                    # HELP b Depends on a.\n# TYPE b gauge\nb 2\n# EOF\n";
        let text = "# HELP a_total Calls to a.\n# TYPE a_total counter\na_total{x=\"# TYPE a\"} 1\n\
                    # HELP b Depends on a.\n# TYPE b gauge\nb 2\n";
        assert_eq!(in_text_format(page), text);
    }
}
