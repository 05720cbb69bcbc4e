//! The changes that were found or made, and those to make.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Instant;

use super::super::access::Access;
use crate::host::inotify::Names;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reported::Sparingly;

/// How many of the names changed by others are reported, and how many are remembered.
const MOST_REPORTED: usize = 8;
pub(super) const MOST_UNDONE: usize = 64;

/// The changes of a synchronisation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Changes {
    /// Sockets that are new or were re-created.
    pub(in super::super) linked: Vec<OsString>,
    /// Sockets that the agent has removed.
    pub(in super::super) dropped: Vec<OsString>,
    /// Names that others have added, replaced or removed, or whose access rights they have changed; not all, if there
    /// are many.
    pub(in super::super) undone: BTreeSet<OsString>,
}

impl Changes {
    /// Counts the changes by others. Returns the first names, and how often such changes were not reported, if they are to
    /// be reported now.
    pub(in super::super) fn undone_to_report(
        &self,
        metrics: &Metrics,
        limit: &mut Sparingly,
    ) -> Option<(Vec<&OsString>, u64)> {
        if self.undone.is_empty() {
            return None;
        }
        metrics.agent_directory_put_right(self.undone.len());
        let unreported = limit.report(Instant::now())?;
        Some((self.undone.iter().take(MOST_REPORTED).collect(), unreported))
    }

    pub(super) fn undo(&mut self, name: &OsString) {
        if self.undone.len() < MOST_UNDONE {
            self.undone.insert(name.clone());
        }
    }
}

/// The sockets whose access rights may have changed since the last check, and from which side.
#[derive(Debug, Default)]
pub(in super::super) struct Touched {
    /// In the agent's directory, which is the agent's right.
    pub(in super::super) by_agent: Names,
    /// In the stable directory, which only pods access.
    pub(in super::super) by_pods: Names,
    /// Whether both directories are watched, so that no later change by the agent is missed.
    pub(in super::super) watched: bool,
}

impl Touched {
    /// The first look of a watch: what happened before is not known. A socket with other access rights than the agent
    /// gave it, as far as is known, has been changed by a pod.
    pub(in super::super) fn first() -> Self {
        Touched { by_agent: Names::default(), by_pods: Names::Any, watched: true }
    }
}

/// The changes to make in the stable directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) remove: Vec<OsString>,
    pub(super) link: Vec<OsString>,
    pub(super) access: Option<Access>,
}

impl Work {
    pub(super) fn is_done(&self) -> bool {
        self.remove.is_empty() && self.link.is_empty() && self.access.is_none()
    }
}
