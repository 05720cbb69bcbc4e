//! Tells when the agent's directory, or anything in it, may have changed.

use std::io;
use std::path::{Path, PathBuf};

use crate::inotify::{Inotify, NAMES};

/// A watch over a directory that may come and go, and over the one it lies in.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
    directory: PathBuf,
    parent: PathBuf,
}

impl Watch {
    /// Watches `directory`; the directory above it must exist.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let parent = directory.parent().unwrap_or(Path::new("/")).to_owned();
        let watch = Watch { inotify: Inotify::new()?, directory: directory.to_owned(), parent };
        watch.rearm()?;
        Ok(watch)
    }

    /// Watches the directory that is at the path now. To be called before looking into it, so that nothing is missed.
    pub(super) fn rearm(&self) -> io::Result<()> {
        if !self.inotify.add(&self.parent, NAMES)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.inotify.add(&self.directory, NAMES).map(drop)
    }

    /// Waits until something may have changed.
    pub(super) async fn changed(&self) -> io::Result<()> {
        self.inotify.changed().await
    }
}
