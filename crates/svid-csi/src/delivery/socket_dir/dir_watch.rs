//! Detects that the agent's directory, anything in it, or the pods' copy of it may have changed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{ReadFlags, WatchFlags};
use tracing::warn;

use super::agent_folder::{self, folders_below};
use super::hard_links::Touched;
use crate::host::inotify::{Inotify, NAMES};
use crate::telemetry::reported::Reported;

/// A watch over the agent's directory, which may appear, disappear or be a link, over its parents, and over the stable
/// directory.
#[derive(Debug)]
pub(super) struct DirWatch {
    of_agent: Inotify,
    of_pods: Inotify,
    directory: PathBuf,
    stable: PathBuf,
    /// Why directories of pods cannot be watched.
    trouble: Mutex<Reported>,
}

const ALL: WatchFlags = NAMES.union(WatchFlags::ATTRIB);

impl DirWatch {
    /// Watches `directory` and `stable`; the directory above the first must exist.
    pub(super) fn new(directory: &Path, stable: &Path) -> io::Result<Self> {
        let (of_agent, of_pods) = (Inotify::new()?, Inotify::new()?);
        let (directory, stable) = (directory.to_owned(), stable.to_owned());
        let watch = DirWatch { of_agent, of_pods, directory, stable, trouble: Mutex::default() };
        watch.rearm(&[])?;
        Ok(watch)
    }

    /// Watches the directories that are currently at their paths, and those of pods. Must be called before reading them,
    /// so that no change is missed.
    pub(super) fn rearm(&self, of_pods: &[PathBuf]) -> io::Result<()> {
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        if !self.of_agent.add(parent, NAMES)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let located = agent_folder::locate(&self.directory);
        if located != self.directory {
            // The target of an administrator's link may also be re-created.
            self.of_agent.add(located.parent().unwrap_or(Path::new("/")), NAMES)?;
        }
        self.of_agent.add(&located, ALL)?;
        for folder in folders_below(&located).map_err(io::Error::other)? {
            self.of_agent.add(&folder, ALL)?;
        }
        self.of_pods.add(&self.stable, ALL)?;
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = of_pods.iter().try_for_each(|folder| self.of_pods.add(folder, ALL).map(drop));
        // That must not stop the rest.
        if let Some(error) = trouble.news(watched.err().map(|error| error.to_string())) {
            warn!(
                error,
                "the directories of pods with the agent's sockets cannot be watched: what a pod changes in its own is restored later"
            );
        }
        Ok(())
    }

    /// The changes since the last call.
    pub(super) fn so_far(&self) -> io::Result<Touched> {
        let (by_agent, by_pods) =
            (self.of_agent.names_so_far(ReadFlags::all())?, self.of_pods.names_so_far(ReadFlags::ATTRIB)?);
        Ok(Touched { by_agent, by_pods, watched: true })
    }

    /// Waits until something may have changed.
    pub(super) async fn changed(&self) -> io::Result<Touched> {
        tokio::select! {
            biased;
            by_agent = self.of_agent.names(ReadFlags::all()) => {
                let by_pods = self.of_pods.names_so_far(ReadFlags::ATTRIB)?;
                Ok(Touched { by_agent: by_agent?, by_pods, watched: true })
            }
            by_pods = self.of_pods.names(ReadFlags::ATTRIB) => {
                let by_agent = self.of_agent.names_so_far(ReadFlags::all())?;
                Ok(Touched { by_agent, by_pods: by_pods?, watched: true })
            }
        }
    }
}
