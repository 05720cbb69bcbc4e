//! The access rights of the agent's sockets, which only the agent may change.
//!
//! A seal does not protect them: a socket cannot be opened, and so cannot be sealed. They are therefore remembered, also
//! across restarts of the driver, and restored after a change by anybody else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use svid_csi_core::state::FileId;
use tracing::error;

use super::access::Access;
use super::agent_folder::Socket;
use crate::host::fsx::{self, FsError};
use crate::telemetry::report;
use crate::telemetry::reported::Reported;

/// How long the access rights of a new socket must stay the same before it is linked: an agent sets them right after it
/// has bound the socket, and from then on pods can change them.
pub(super) const SETTLES_IN: Duration = Duration::from_millis(15);

/// The access rights that the agent has given its sockets.
#[derive(Debug, Default)]
pub(super) struct Granted {
    file: Option<PathBuf>,
    sockets: HashMap<FileId, Grant>,
    /// New sockets, with their access rights and since when they have had them.
    settling: HashMap<FileId, (Access, Instant)>,
    /// Sockets with other access rights, and whether a pod may have changed them; the event of a change by the agent may
    /// follow.
    suspected: HashMap<FileId, bool>,
    is_saved: bool,
    settles_in: Duration,
    /// Why they cannot be saved.
    trouble: Reported,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Grant {
    socket: FileId,
    born: Option<i128>,
    access: Access,
}

impl Granted {
    /// Those that an earlier run has saved in `file`.
    pub(super) fn load(file: Option<PathBuf>) -> Self {
        let sockets = file.as_deref().map_or(Ok(Vec::new()), read).unwrap_or_else(|error| {
            error!(
                error = report::chain(&error),
                "cannot read the saved access rights of the agent's sockets; using the current ones"
            );
            Vec::new()
        });
        let sockets = sockets.into_iter().map(|grant| (grant.socket, grant)).collect();
        Granted { file, sockets, is_saved: true, settles_in: SETTLES_IN, ..Granted::default() }
    }

    /// Of sockets whose access rights are settled already.
    pub(super) fn settled() -> Self {
        Granted { settles_in: Duration::ZERO, ..Granted::default() }
    }

    /// The access rights of a socket, if they are known.
    pub(super) fn get(&self, socket: FileId, born: Option<i128>) -> Option<&Access> {
        self.sockets.get(&socket).filter(|grant| grant.born == born).map(|grant| &grant.access)
    }

    /// Whether new sockets wait until their access rights are settled.
    pub(super) fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    /// Whether the next look decides who changed the access rights of a socket.
    pub(super) fn is_undecided(&self) -> bool {
        !self.suspected.is_empty()
    }

    /// Leaves out sockets that are new and not settled yet, and remembers the access rights of those that are.
    pub(super) fn leave_unsettled(&mut self, wanted: &mut BTreeMap<OsString, Socket>, linked: &HashSet<FileId>) {
        let before = std::mem::take(&mut self.settling);
        wanted.retain(|_, socket| {
            if linked.contains(&socket.id) || self.get(socket.id, socket.born).is_some() {
                return true;
            }
            let since = match before.get(&socket.id) {
                Some((same, since)) if *same == socket.access => *since,
                _ => Instant::now(),
            };
            if since.elapsed() >= self.settles_in {
                self.set(socket);
                return true;
            }
            self.settling.insert(socket.id, (socket.access.clone(), since));
            false
        });
        // Before pods can change them.
        self.save();
    }

    /// The access rights to restore, if a pod has changed them. Only the second look that finds them so decides: by
    /// then, the event of a change by the agent has been read. While a pod changes them too, they are not taken for the
    /// agent's.
    pub(super) fn judge(&mut self, socket: &Socket, by_agent: bool, by_pods: bool) -> Option<&Access> {
        let suspected = self.suspected.remove(&socket.id);
        let by_pods = by_pods || suspected == Some(true);
        match self.get(socket.id, socket.born) {
            Some(granted) if *granted == socket.access => {}
            Some(_) if by_agent && !by_pods => self.set(socket),
            Some(_) if suspected.is_none() => _ = self.suspected.insert(socket.id, by_pods),
            Some(_) => return self.get(socket.id, socket.born),
            None => self.set(socket),
        }
        None
    }

    fn set(&mut self, socket: &Socket) {
        let grant = Grant { socket: socket.id, born: socket.born, access: socket.access.clone() };
        self.is_saved &= self.sockets.get(&socket.id) == Some(&grant);
        self.sockets.insert(socket.id, grant);
    }

    /// Forgets other sockets, and saves the rest if it has changed. A failure is retried at the next look.
    pub(super) fn keep_only(&mut self, is_wanted: impl Fn(FileId) -> bool) {
        let before = self.sockets.len();
        self.sockets.retain(|id, _| is_wanted(*id));
        self.suspected.retain(|id, _| is_wanted(*id));
        self.is_saved &= self.sockets.len() == before;
        self.save();
    }

    fn save(&mut self) {
        if self.is_saved {
            return;
        }
        let trouble = self.write().err().map(|error| report::chain(&error));
        self.is_saved = trouble.is_none();
        if let Some(error) = self.trouble.news(trouble) {
            error!(
                error,
                "cannot save the access rights of the agent's sockets: changes made while the driver is down will not be detected"
            );
        }
    }

    fn write(&self) -> Result<(), FsError> {
        let Some(file) = &self.file else { return Ok(()) };
        let grants: Vec<_> = self.sockets.values().collect();
        let json = serde_json::to_vec(&grants).map_err(io::Error::other).map_err(FsError::of("encode", file))?;
        fsx::write_atomic(file, &json, 0o600)
    }
}

fn read(file: &Path) -> Result<Vec<Grant>, FsError> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(FsError::of("read", file)(error)),
        Ok(json) => serde_json::from_slice(&json).map_err(io::Error::other).map_err(FsError::of("decode", file)),
    }
}
