//! Keeps the sockets of the agent's directory hard-linked into a directory that always exists and that others cannot
//! change.
//!
//! A hard link to a Unix socket leads to the same listener, and the agent still sees the caller's peer credentials.
//! Both directories are held open while they are compared, and neither may be a link, because the directory above may
//! belong to a user other than root.
//!
//! Pods with a read-only volume share the stable directory, so a pod that could add a socket to it would act as the agent
//! for all of them. It is sealed except while names are moved into it or out of it, and checked again once it is sealed.
//! What takes longer happens in a folder beside it that no pod gets. A pod whose mount may be writable has a directory of
//! its own ([`super::of_pods`]).

mod changes;
mod folders;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Stat};
use svid_csi_core::state::FileId;

pub(super) use self::changes::{Changes, Touched};
use self::changes::{MOST_UNDONE, Work};
use self::folders::{SyncedFolders, check_owner, open_aside, other_access, put_back, sweep};
use super::agent_folder::{self, Offered, Socket, entries, id, open, unless_missing};
use super::granted::Granted;
use crate::host::beneath::Folder;
use crate::host::fsx::FsError;
use crate::host::seal::{self, Sealing};

/// How often changes by others while the directory was open are reverted in one go. In its own directory, a pod harms
/// only itself.
const MOST_PASSES: u32 = 32;
const MOST_PASSES_OF_ONE_POD: u32 = 4;
/// From this pass on, the others are given time to fall out of step.
const PATIENT_PASSES: u32 = 4;

/// The state of the stable directory after the last synchronisation.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// `None` before the first check.
    left: Option<HashMap<OsString, FileId>>,
    /// Files other than sockets that existed before the first check, and so belong to the administrator.
    spared: HashMap<OsString, FileId>,
    /// Whether it is the directory of one pod, so that nothing in it belongs to the administrator.
    of_one_pod: bool,
    /// The access rights of the sockets last found in the agent's directory.
    granted: Granted,
    /// Whether the last look restored access rights, which caused events.
    pub(super) restored: bool,
    /// Whether the last look has decided who changed access rights.
    pub(super) has_judged: bool,
    /// Whether the last look left something of others in the stable directory.
    pub(super) is_wrong: bool,
    /// Whether the agent has had a socket at the top level of its directory.
    pub(super) seen: bool,
    /// Links of the agent's directory that are not followed.
    pub(super) leading_out: BTreeSet<OsString>,
    /// Whether the seal holds.
    pub(super) sealing: Option<Sealing>,
}

impl Linked {
    /// Nothing is linked yet; `granted` is from an earlier run.
    pub(super) fn with(granted: Granted) -> Self {
        Linked { granted, ..Linked::default() }
    }

    /// Of a directory for one pod, into which the sockets of the stable directory are linked.
    pub(super) fn of_one_pod() -> Self {
        Linked { granted: Granted::settled(), of_one_pod: true, ..Linked::default() }
    }

    /// Makes `stable` contain exactly the sockets at the top level of the agent's directory, under all their names
    /// there. A missing directory contains none. `names` are the agent's directory and other paths through which links
    /// lead there.
    ///
    /// Continues if one socket fails, and returns the first error beside the changes.
    pub(super) fn synchronise(
        &mut self,
        names: &[PathBuf],
        stable: &Path,
        touched: &Touched,
    ) -> (Changes, Option<FsError>) {
        let mut changes = Changes::default();
        self.has_judged = false;
        let trouble = self.try_synchronise(names, stable, touched, &mut changes);
        (changes, trouble.err())
    }

    /// Whether a socket has a name in the stable directory.
    pub(super) fn links(&self, socket: FileId) -> bool {
        self.left.iter().flat_map(HashMap::values).any(|linked| *linked == socket)
    }

    /// Whether sockets wait until their access rights are settled.
    pub(super) fn is_settling(&self) -> bool {
        self.granted.is_settling()
    }

    /// Whether another look is needed, even if nothing changes.
    pub(super) fn is_undecided(&self) -> bool {
        self.is_settling() || self.granted.is_undecided() || self.restored
    }

    fn try_synchronise(
        &mut self,
        names: &[PathBuf],
        stable: &Path,
        touched: &Touched,
        changes: &mut Changes,
    ) -> Result<(), FsError> {
        let to = open(stable)?;
        check_owner(&to, stable)?;
        // An agent may have no directory, but the stable one exists.
        let from = if self.of_one_pod { Some(open(&names[0])?) } else { unless_missing(open(&names[0]))? };
        let mut offered = from.as_ref().map_or(Ok(Offered::default()), |from| agent_folder::offered(from, names))?;
        self.leading_out = std::mem::take(&mut offered.leading_out);
        self.seen |= !offered.sockets.is_empty();
        let mut wanted = offered.sockets;
        let linked = entries(&to, stable)?.iter().map(|(_, stat)| id(stat)).collect();
        self.granted.leave_unsettled(&mut wanted, &linked);
        let folders = SyncedFolders { from, to, stable };
        // At first for what an earlier run has left in it.
        let mut aside = if self.left.is_none() { Some(open_aside(&beside(stable, "aside"))?) } else { None };
        let trouble = self.converge(&folders, &mut wanted, &mut aside, changes)?;
        self.is_wrong = trouble.is_some() && self.holds_others(&folders, &wanted).unwrap_or(true);
        let put_back = self.put_access_back(&folders, &wanted, touched, changes);
        let swept = aside.map_or(Ok(()), |aside| sweep(&aside));
        trouble.map_or(Ok(()), Err).and(put_back).and(swept)
    }

    /// Compares and changes the directory until it is as wanted, or no pass helps. Returns what is in the way. `aside` is
    /// opened if something is to be moved.
    fn converge(
        &mut self,
        folders: &SyncedFolders<'_>,
        wanted: &mut BTreeMap<OsString, Socket>,
        aside: &mut Option<Folder>,
        changes: &mut Changes,
    ) -> Result<Option<FsError>, FsError> {
        let stable = folders.stable;
        let mut trouble = None;
        let mut failed = None;
        for pass in 0..if self.of_one_pod { MOST_PASSES_OF_ONE_POD } else { MOST_PASSES } {
            if pass >= PATIENT_PASSES {
                std::thread::sleep(Duration::from_millis(1));
            }
            let work = self.compare(folders, wanted, changes)?;
            if work.is_done() {
                self.seal(folders)?;
                return Ok(None);
            }
            let aside = match &mut *aside {
                Some(aside) => aside,
                none => none.insert(open_aside(&beside(stable, "aside"))?),
            };
            if failed.as_ref() == Some(&work) {
                // No pod interferes: the failure is the system's.
                break;
            }
            let done = self.carry_out(&work, folders, aside, wanted, changes);
            failed = done.is_err().then_some(work);
            trouble = Some(done.err().unwrap_or_else(|| {
                let others = io::Error::other("another process keeps changing it");
                FsError { action: "protect", path: stable.to_owned(), source: others }
            }));
        }
        Ok(trouble)
    }

    fn seal(&mut self, folders: &SyncedFolders<'_>) -> Result<(), FsError> {
        self.sealing = Some(seal::seal(&folders.to).map_err(FsError::of("seal", folders.stable))?);
        Ok(())
    }

    fn compare(
        &mut self,
        folders: &SyncedFolders<'_>,
        wanted: &BTreeMap<OsString, Socket>,
        changes: &mut Changes,
    ) -> Result<Work, FsError> {
        let SyncedFolders { from, to, stable, .. } = folders;
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        let entries = entries(to, stable)?;
        let present: HashMap<_, _> = entries.iter().map(|(name, stat)| (name.clone(), id(stat))).collect();
        let is_wanted = |name: &OsString| wanted.get(name).map(|socket| socket.id);
        match &self.left {
            Some(left) => {
                let names = left.keys().chain(present.keys());
                names.filter(|name| left.get(*name) != present.get(*name)).for_each(|name| changes.undo(name));
            }
            None if self.of_one_pod => {}
            None => {
                let others = entries
                    .iter()
                    .filter(|(_, stat)| matches!(kind(stat), FileType::RegularFile | FileType::Directory));
                self.spared.extend(others.map(|(name, stat)| (name.clone(), id(stat))));
            }
        }
        let in_place = |name: &OsString, stat: &Stat| match is_wanted(name) {
            // One socket is renamed over the other.
            Some(wanted) => wanted == id(stat) || kind(stat) == FileType::Socket,
            None => self.spared.get(name) == Some(&id(stat)),
        };
        let remove =
            entries.iter().filter(|(name, stat)| !in_place(name, stat)).map(|(name, _)| name.clone()).collect();
        let link = wanted.keys().filter(|name| is_wanted(name) != present.get(*name).copied()).cloned().collect();
        self.left = Some(present);
        Ok(Work { remove, link, access: other_access(from.as_ref(), to, stable)? })
    }

    /// Whether the stable directory contains something that is neither the agent's nor the administrator's.
    fn holds_others(
        &self,
        SyncedFolders { to, stable, .. }: &SyncedFolders<'_>,
        wanted: &BTreeMap<OsString, Socket>,
    ) -> Result<bool, FsError> {
        let is_agents = |name: &OsString, found| wanted.get(name).is_some_and(|socket| socket.id == found);
        let is_spared = |name: &OsString, found| self.spared.get(name) == Some(&found);
        let is_other = |(name, stat): &(OsString, Stat)| !is_agents(name, id(stat)) && !is_spared(name, id(stat));
        Ok(entries(to, stable)?.iter().any(is_other))
    }

    /// Does the work while the directory is not sealed, and so open to pods. It is quick, and links come last, so that
    /// little can replace them; what pods do meanwhile is undone afterwards.
    fn carry_out(
        &mut self,
        work: &Work,
        folders: &SyncedFolders<'_>,
        aside: &Folder,
        wanted: &mut BTreeMap<OsString, Socket>,
        changes: &mut Changes,
    ) -> Result<(), FsError> {
        let mut first_trouble = Ok(());
        let mut failed = |done: Result<(), FsError>| {
            let failed = done.is_err();
            if first_trouble.is_ok() {
                first_trouble = done;
            }
            failed
        };
        let mut prepared = Vec::new();
        for (number, name) in work.link.iter().enumerate() {
            let link = format!("link-{number}");
            match folders.prepare(&wanted[name], name, aside, &link) {
                Ok(true) => prepared.push((name, link)),
                Ok(false) => _ = wanted.remove(name),
                Err(error) => _ = failed(Err(error)),
            }
        }
        if prepared.is_empty() && work.remove.is_empty() && work.access.is_none() {
            return first_trouble;
        }
        seal::unseal(&folders.to).map_err(FsError::of("unseal", folders.stable))?;
        failed(work.access.as_ref().map_or(Ok(()), |access| folders.restore(access)));
        let mut removed = work.remove.clone();
        removed.retain(|name| !failed(folders.remove(name, aside)));
        prepared.retain(|(name, link)| !failed(folders.place(link, name, aside)));
        self.seal(folders)?;
        let left = self.left.get_or_insert_default();
        for name in removed {
            left.remove(&name);
            if !changes.undone.contains(&name) && changes.undone.len() < MOST_UNDONE {
                changes.dropped.push(name);
            }
        }
        for (name, _) in prepared {
            left.insert(name.clone(), wanted[name].id);
            changes.linked.push(name.clone());
        }
        first_trouble
    }

    /// Restores the access rights of sockets that a pod has changed.
    fn put_access_back(
        &mut self,
        folders: &SyncedFolders<'_>,
        wanted: &BTreeMap<OsString, Socket>,
        touched: &Touched,
        changes: &mut Changes,
    ) -> Result<(), FsError> {
        self.restored = false;
        let mut first_trouble = Ok(());
        if touched.watched {
            let mut seen = HashSet::new();
            for (name, socket) in wanted.iter().filter(|(_, socket)| seen.insert(socket.id)) {
                let aliases = wanted.iter().filter(|(_, other)| other.id == socket.id).map(|(alias, _)| alias);
                let aliases: Vec<_> = aliases.chain([&socket.name]).collect();
                let by_agent = aliases.iter().any(|alias| touched.by_agent.contain(alias));
                let by_pods = aliases.iter().any(|alias| touched.by_pods.contain(alias));
                if let Some(granted) = self.granted.judge(socket, by_agent, by_pods) {
                    let path = folders.stable.join(name);
                    let done = put_back(&folders.to, name, socket.id, granted)
                        .map_err(FsError::of("restore the access rights of", &path));
                    self.restored |= done.is_ok();
                    first_trouble = first_trouble.and(done);
                    changes.undo(name);
                }
            }
        }
        self.has_judged = touched.watched;
        self.granted.keep_only(|id| wanted.values().any(|socket| socket.id == id));
        first_trouble
    }
}

/// A hidden sibling of the stable directory.
pub(super) fn beside(stable: &Path, what: &str) -> PathBuf {
    let name = stable.file_name().unwrap_or_default().to_string_lossy();
    stable.with_file_name(format!(".{}.{what}", name.trim_start_matches('.')))
}

#[cfg(test)]
mod tests;
