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
            self.export_until(&batch, &stop).await;
            batch.clear();
        }
        while let Ok(span) = finished.try_recv() {
            batch.push(span);
        }
        let unsent = batch.split_off(batch.len().min(MOST)).len();
        // Without a name to resolve, which may take long.
        let is_sent =
            batch.is_empty() || (!self.addresses.is_empty() && self.send(&batch, LAST_PATIENCE).await.is_ok());
        self.metrics.spans_dropped((unsent + if is_sent { 0 } else { batch.len() }) as u64);
        self.count_lost();
        Ok(())
    }

    /// Exports spans. Once the driver stops, that must end soon; it does not begin again, because the collector may have them
    /// already.
    async fn export_until(&mut self, batch: &[FinishedSpan], stop: &CancellationToken) {
        let metrics = self.metrics.clone();
        let export = self.export(batch);
        tokio::pin!(export);
        tokio::select! {
            () = &mut export => {}
            () = stop.cancelled() => if timeout(LAST_PATIENCE, export).await.is_err() {
                metrics.spans_dropped(batch.len() as u64);
            },
        }
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

    /// Connects to the first of the addresses that accepts it, which comes first from then on. Each has its part of the
    /// time, because one that does not respond must not keep the others from being tried.
    async fn connect(&mut self, patience: Duration) -> Result<TcpStream, ExportError> {
        let each = patience / u32::try_from(self.addresses.len() + 1).unwrap_or(u32::MAX);
        let mut error = ExportError::Slow;
        for _ in 0..self.addresses.len() {
            match timeout(each, TcpStream::connect(self.addresses[0])).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(refused)) => error = ExportError::Connect(refused),
                Err(_) => {}
            }
            self.addresses.rotate_left(1);
        }
        Err(error)
    }

    /// Sends to one of the addresses.
    async fn send(&mut self, batch: &[FinishedSpan], patience: Duration) -> Result<(), ExportError> {
        let CollectorUrl { host, port, path } = &self.collector;
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let request = Request::post(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(otlp::request(&self.origin, batch)));
        let sent = timeout(patience, async {
            let stream = self.connect(patience).await?;
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::telemetry::metrics::Snapshot;

    fn span() -> FinishedSpan {
        let now = SystemTime::UNIX_EPOCH;
        FinishedSpan {
            trace: [1; 16],
            id: [1; 8],
            parent: None,
            name: "call",
            start: now,
            end: now,
            attributes: Vec::new(),
        }
    }

    fn dropped(metrics: &Metrics) -> String {
        let page = metrics.encode(&Snapshot::default());
        page.lines().find(|line| line.starts_with("svid_csi_spans_dropped_total")).unwrap_or_default().to_owned()
    }

    /// The exporter of a driver, the collector's listener, the metrics, and the count of what did not fit into the queue.
    async fn exporter() -> (Exporter, TcpListener, Arc<Metrics>, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector =
            CollectorUrl { host: address.ip().to_string(), port: address.port(), path: "/v1/traces".to_owned() };
        let origin = SpanOrigin { service: "svid-csi-driver", node: "n1".to_owned() };
        let (metrics, lost) = (Arc::<Metrics>::default(), Arc::<AtomicU64>::default());
        let mut exporter = Exporter::new(collector, origin, metrics.clone(), lost.clone());
        exporter.addresses = vec![address];
        (exporter, listener, metrics, lost)
    }

    #[tokio::test]
    async fn a_request_in_progress_at_the_end_is_not_sent_again() {
        let (exporter, listener, metrics, lost) = exporter().await;
        let (sender, finished) = mpsc::channel(8);
        let stop = CancellationToken::new();
        sender.send(span()).await.unwrap();
        let collector = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            assert!(first.read(&mut head).await.unwrap() > 0);
            lost.store(3, Ordering::Relaxed);
            stop.cancel();
            first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
            drop(first);
            listener.accept().await
        };
        tokio::select! {
            ended = exporter.run(finished, stop.clone()) => ended.unwrap(),
            _again = collector => panic!("it was sent again"),
        }
        assert_eq!(dropped(&metrics), "svid_csi_spans_dropped_total 3", "what did not fit is counted at the end too");
    }

    #[tokio::test]
    async fn spans_that_cannot_be_sent_at_the_end_are_counted() {
        let (exporter, listener, metrics, _) = exporter().await;
        drop(listener);
        let (sender, finished) = mpsc::channel(MOST + 8);
        for _ in 0..MOST + 5 {
            sender.send(span()).await.unwrap();
        }
        let stop = CancellationToken::new();
        stop.cancel();
        exporter.run(finished, stop).await.unwrap();
        assert_eq!(dropped(&metrics), format!("svid_csi_spans_dropped_total {}", MOST + 5));
    }

    /// A port that answers no attempt to connect, because as many wait as may, and what keeps it so.
    fn silent() -> (SocketAddr, std::net::TcpListener, Vec<std::net::TcpStream>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let waiting = std::iter::from_fn(connect).collect();
        (address, listener, waiting)
    }

    #[tokio::test]
    async fn an_address_that_does_not_respond_is_tried_once() {
        let (silent, ..) = &silent();
        let (mut exporter, collector, ..) = exporter().await;
        let responding = exporter.addresses[0];
        exporter.addresses.insert(0, *silent);
        let answer = async {
            let (mut stream, _) = collector.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            stream
        };
        let send = exporter.send(&[], PATIENCE);
        tokio::select! {
            sent = send => sent.unwrap(),
            _ = async { let _stream = answer.await; std::future::pending::<()>().await } => {}
        }
        assert_eq!(exporter.addresses, [responding, *silent]);
    }
}
