//! Sends spans, many in one request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::CollectorUrl;
use super::layer::FinishedSpan;
use super::otlp::{self, SpanOrigin};
use crate::host::resolver::Resolver;
use crate::net::exchange;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;
use crate::telemetry::reported::Reported;

/// The most spans in one request.
const MOST: usize = 512;
/// How long the first span of a request waits for others.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same while the driver ends.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// The longest response that is read, in bytes: it says which spans were refused.
const LONGEST_RESPONSE: usize = 64 * 1024;

/// Why spans were not received.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("the name {0} cannot be resolved")]
    Name(String),
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("unexpected response")]
    Talk(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the collector responds with {0}")]
    Refused(StatusCode),
    #[error("the collector did not respond in time")]
    Slow,
}

pub(super) struct Exporter {
    collector: CollectorUrl,
    origin: SpanOrigin,
    metrics: Arc<Metrics>,
    lost: Arc<AtomicU64>,
    resolver: Resolver,
    addresses: Vec<SocketAddr>,
    reported: Reported<String>,
}

impl Exporter {
    pub(super) fn new(
        collector: CollectorUrl,
        origin: SpanOrigin,
        metrics: Arc<Metrics>,
        lost: Arc<AtomicU64>,
    ) -> Self {
        Self {
            collector,
            origin,
            metrics,
            lost,
            resolver: Resolver::default(),
            addresses: Vec::new(),
            reported: Reported::default(),
        }
    }

    /// Sends spans until the driver stops, and then those that have ended by then.
    pub(super) async fn run(
        mut self,
        mut finished: mpsc::Receiver<FinishedSpan>,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let mut batch = Vec::new();
        while !stop.is_cancelled() {
            tokio::select! {
                () = gather(&mut finished, &mut batch) => {}
                () = stop.cancelled() => break,
            }
            self.count_lost();
            tokio::select! {
                () = self.export(&batch) => batch.clear(),
                () = stop.cancelled() => break,
            }
        }
        while batch.len() < MOST
            && let Ok(span) = finished.try_recv()
        {
            batch.push(span);
        }
        // Without a name to resolve, which may take long.
        if !self.addresses.is_empty() && !batch.is_empty() {
            let _ = self.send(&batch, LAST_PATIENCE).await;
        }
        Ok(())
    }

    fn count_lost(&self) {
        self.metrics.spans_dropped(self.lost.swap(0, Ordering::Relaxed));
    }

    async fn export(&mut self, batch: &[FinishedSpan]) {
        let sent = match self.resolved().await {
            Ok(()) => self.send(batch, PATIENCE).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) if self.reported.ends() => info!(collector = self.collector.host, "traces are sent again"),
            Ok(()) => {}
            Err(error) => {
                self.addresses.clear();
                self.metrics.spans_dropped(batch.len() as u64);
                let error = report::chain(&error);
                if self.reported.is_new(error.clone()) {
                    warn!(collector = self.collector.host, error, "traces cannot be sent, and are dropped");
                }
            }
        }
    }

    /// Looks up the collector's addresses, unless they are known.
    async fn resolved(&mut self) -> Result<(), ExportError> {
        if self.addresses.is_empty() {
            let CollectorUrl { host, port, .. } = &self.collector;
            self.addresses = self.resolver.look_up(host.clone(), *port).await.unwrap_or_default();
        }
        if self.addresses.is_empty() { Err(ExportError::Name(self.collector.host.clone())) } else { Ok(()) }
    }

    /// Sends to the first of the addresses that accepts a connection.
    async fn send(&self, batch: &[FinishedSpan], patience: Duration) -> Result<(), ExportError> {
        let CollectorUrl { host, port, path } = &self.collector;
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let request = Request::post(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(otlp::request(&self.origin, batch)));
        let sent = timeout(patience, async {
            let stream = TcpStream::connect(&self.addresses[..]).await.map_err(ExportError::Connect)?;
            let request = request.map_err(|error| ExportError::Talk(error.into()))?;
            exchange::once(stream, request, LONGEST_RESPONSE).await.map_err(ExportError::Talk)
        });
        let (status, _) = sent.await.map_err(|_| ExportError::Slow)??;
        if status.is_success() { Ok(()) } else { Err(ExportError::Refused(status)) }
    }
}

/// Waits for a span, and takes those that follow soon.
async fn gather(finished: &mut mpsc::Receiver<FinishedSpan>, batch: &mut Vec<FinishedSpan>) {
    if finished.recv_many(batch, MOST).await == 0 {
        // No layer is left to send any.
        return std::future::pending().await;
    }
    let later = sleep(PAUSE);
    tokio::pin!(later);
    while batch.len() < MOST {
        tokio::select! {
            taken = finished.recv_many(batch, MOST - batch.len()) => if taken == 0 { return },
            () = &mut later => return,
        }
    }
}
