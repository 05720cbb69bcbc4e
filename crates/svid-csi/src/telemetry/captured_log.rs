//! The log of a test, for its assertions.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Level;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt};

/// The log of this thread, from its creation until it is dropped; this is the log of a test on a single-threaded
/// runtime.
pub(crate) struct CapturedLog {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CapturedLog {
    pub(crate) fn start() -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = text.clone();
        let lines = fmt::layer().with_ansi(false).with_writer(move || Writer(sink.clone()));
        let ours = Targets::new().with_target("svid_csi", Level::INFO);
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(ours));
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// The lines that contain this text.
    pub(crate) fn lines(&self, with: &str) -> Vec<String> {
        let text = String::from_utf8(self.text.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }
}
