//! Spans of CSI calls for a collector, if there is one (OTLP over HTTP, as JSON).
//!
//! They are made with `tracing` under the target `SPANS`. Without a collector nothing subscribes to that target, so that a
//! span is a comparison. With one, a span that ends goes into a bounded queue, from which one task sends; whatever does not
//! fit, or is refused, is dropped and counted. No call waits for any of that.

mod collector_url;
mod exporter;
mod layer;
mod otlp;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;

pub use self::collector_url::CollectorUrl;
use self::exporter::Exporter;
use self::layer::FinishedSpan;
pub use self::layer::SpanLayer;
use self::otlp::SpanOrigin;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

/// How many spans may wait to be sent.
const QUEUE: usize = 2048;

/// The way of spans to a collector.
#[derive(Debug)]
pub struct Traces {
    collector: CollectorUrl,
    sender: mpsc::Sender<FinishedSpan>,
    finished: mpsc::Receiver<FinishedSpan>,
    lost: Arc<AtomicU64>,
}

impl Traces {
    /// The way to this collector.
    pub fn to(collector: CollectorUrl) -> Self {
        let (sender, finished) = mpsc::channel(QUEUE);
        Self { collector, sender, finished, lost: Arc::default() }
    }

    /// What collects spans in this process.
    pub fn layer(&self) -> SpanLayer {
        SpanLayer::new(self.sender.clone(), self.lost.clone())
    }

    /// Starts sending.
    pub(crate) fn start(self, node: &str, metrics: Arc<Metrics>, tasks: &Tasks) {
        let origin = SpanOrigin { service: "svid-csi-driver", node: node.to_owned() };
        let exporter = Exporter::new(self.collector, origin, metrics, self.lost);
        tasks.essential("traces", exporter.run(self.finished, tasks.stopping()));
    }
}
