//! Collects spans as they end.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use aws_lc_rs::rand;
use tokio::sync::mpsc;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::host::clock;

/// The longest attribute, in bytes.
const LONGEST: usize = 512;

/// A span that has ended.
#[derive(Debug)]
pub(super) struct FinishedSpan {
    pub(super) trace: [u8; 16],
    pub(super) id: [u8; 8],
    pub(super) parent: Option<[u8; 8]>,
    pub(super) name: &'static str,
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
    /// One of them, `error`, says why it failed.
    pub(super) attributes: Vec<(&'static str, String)>,
}

/// A span that has not ended.
struct OpenSpan {
    span: FinishedSpan,
    /// It turned out to be not worth sending.
    is_idle: bool,
}

impl Visit for OpenSpan {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "unchanged" {
            self.is_idle = value;
        } else {
            self.record_str(field, if value { "true" } else { "false" });
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut value = value.to_owned();
        value.truncate(value.floor_char_boundary(LONGEST));
        self.span.attributes.push((field.name(), value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Sends every span of the target [`SPANS`](crate::telemetry::log::SPANS) to the queue when it ends.
#[derive(Debug, Clone)]
pub struct SpanLayer {
    queue: mpsc::Sender<FinishedSpan>,
    lost: Arc<AtomicU64>,
}

impl SpanLayer {
    pub(super) fn new(queue: mpsc::Sender<FinishedSpan>, lost: Arc<AtomicU64>) -> Self {
        Self { queue, lost }
    }
}

/// A number that no other span has; zero is invalid.
fn random<const N: usize>() -> [u8; N] {
    let mut id = [1; N];
    // Without randomness, traces are useless, but nothing else is.
    let _ = rand::fill(&mut id);
    id
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let above = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            let open = extensions.get::<OpenSpan>()?;
            Some((open.span.trace, open.span.id))
        });
        let (trace, parent) = above.map_or_else(|| (random(), None), |(trace, id)| (trace, Some(id)));
        let now = clock::now();
        let span_of = FinishedSpan {
            trace,
            id: random(),
            parent,
            name: span.name(),
            start: now,
            end: now,
            attributes: Vec::new(),
        };
        let mut open = OpenSpan { span: span_of, is_idle: false };
        attributes.record(&mut open);
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<OpenSpan>() {
            values.record(open);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let open = span.extensions_mut().remove::<OpenSpan>();
        let Some(OpenSpan { mut span, is_idle: false }) = open else { return };
        span.end = clock::now();
        if self.queue.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
