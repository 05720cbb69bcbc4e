//! Events as JSON lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

/// Writes each event as one line of JSON to standard output and, if requested, to the end of a file.
#[derive(Debug, Clone, Default)]
pub struct JsonLines {
    file: Option<Arc<File>>,
}

impl JsonLines {
    /// To standard output, and appended to the file at `path` if it is given.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn new(path: Option<&Path>) -> io::Result<Self> {
        let open = |path: &Path| OpenOptions::new().append(true).create(true).open(path);
        Ok(Self { file: path.map(open).transpose()?.map(Arc::new) })
    }

    /// Writes one event immediately. If the reader has ended, the program continues.
    pub fn write(&self, event: &impl Serialize) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        _ = stdout.write_all(&line).and_then(|()| stdout.flush());
        if let Some(file) = &self.file {
            // Appended in one write, so that the lines of several tasks do not mix.
            _ = file.as_ref().write_all(&line);
        }
    }
}
