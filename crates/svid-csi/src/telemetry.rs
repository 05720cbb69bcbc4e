//! The log: one line per event on stderr, as text or JSON, never coloured.

use std::io;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// How the log is written.
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
    /// For machines: one JSON object a line.
    Json,
}

/// Starts the log of this process; the first call wins.
pub fn init(options: LogOptions) {
    // Libraries only warn: the finer levels of an HTTP/2 stack tell of frames, and frames carry tokens.
    let levels = Targets::new().with_default(LevelFilter::WARN).with_target("svid_csi", options.level);
    // A forbidden watch is told once, by name, where it is started; there it would be told at each of its retries.
    let levels = levels.with_target("kube_runtime", LevelFilter::ERROR);
    // It tells each failure, which is told where it is met, and all of an answer that it cannot read, whatever is in it.
    let levels = levels.with_target("kube_client", LevelFilter::OFF);
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    let lines = match options.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let already_started = tracing_subscriber::registry().with(lines.with_filter(levels)).try_init().is_err();
    if already_started {
        tracing::debug!("the log is already initialised");
    }
}
