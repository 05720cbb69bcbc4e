//! The log: one line per event on stderr, as text or JSON, never coloured.

use std::io;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// The configuration of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// The least important level written.
    pub level: Level,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// The target of spans, which are not in the log.
pub const SPANS: &str = "svid_csi::spans";

/// What else subscribes to spans.
pub type ForSpans = Box<dyn Layer<Registry> + Send + Sync>;

/// A layer that sees the spans of the driver, and nothing else.
pub fn for_spans(layer: impl Layer<Registry> + Send + Sync) -> ForSpans {
    layer.with_filter(Targets::new().with_target(SPANS, LevelFilter::INFO)).boxed()
}

/// Starts the log of this process; only the first call has an effect.
pub fn init(options: LogOptions, spans: Option<ForSpans>) {
    // Libraries are limited to warnings: the lower levels of an HTTP/2 stack log frames, which contain tokens.
    let levels = Targets::new().with_default(LevelFilter::WARN).with_target("svid_csi", options.level);
    let levels = levels.with_target(SPANS, LevelFilter::OFF);
    // This project logs a forbidden watch once, by name; kube_runtime would log it at each retry.
    let levels = levels.with_target("kube_runtime", LevelFilter::ERROR);
    // It logs failures that this project logs itself, and complete responses that it cannot read.
    let levels = levels.with_target("kube_client", LevelFilter::OFF);
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    let lines = match options.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let already_started =
        tracing_subscriber::registry().with(spans).with(lines.with_filter(levels)).try_init().is_err();
    if already_started {
        tracing::debug!("the log is already initialised");
    }
}
