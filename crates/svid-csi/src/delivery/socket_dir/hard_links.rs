//! Keeps the sockets of the agent's directory hard-linked into a directory that always exists and that others cannot
//! change.
//!
//! A hard link to a Unix socket leads to the same listener, and the agent still sees the caller's peer credentials.
//! Both directories are held open while they are compared, and neither may be a link, because the directory above may
//! belong to a user other than root.
//!
//! All pods of the node share the stable directory, so a pod that could add a socket to it would act as the agent for
//! all of them. It is sealed except while names are moved into it or out of it, one step each, and checked again once it
//! is sealed. What takes longer happens in a folder beside it that no pod gets.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use svid_csi_core::state::FileId;
use tracing::debug;

use super::access::{Access, Granted, by_descriptor};
use super::agent_folder::{self, Offered, Socket, entries, id, open, unless_missing};
use crate::host::beneath::Folder;
use crate::host::fsx::{self, FsError};
use crate::host::inotify::Names;
use crate::host::seal::{self, Sealing};
use crate::telemetry::report;

/// A name in the folder beside the stable directory.
const LINK: &str = "link";
/// How often changes by others while the directory was open are reverted in one go.
const MOST_PASSES: usize = 64;
/// How often a folder that a pod may be filling is listed.
const SWEEPS: u32 = 4;
/// How long the access rights of a new socket must stay the same before it is linked: an agent sets them right after it
/// has bound the socket, and from then on pods can change them.
pub(super) const SETTLES_IN: Duration = Duration::from_millis(15);

/// The changes of a synchronisation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Sockets that are new or were re-created.
    pub(super) linked: Vec<OsString>,
    /// Sockets that the agent has removed.
    pub(super) dropped: Vec<OsString>,
    /// Names that others have added, replaced or removed, or whose access rights they have changed.
    pub(super) undone: BTreeSet<OsString>,
}

/// The sockets whose access rights may have changed since the last check, and from which side.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// In the agent's directory, which is the agent's right.
    pub(super) by_agent: Names,
    /// In the stable directory, which only pods access.
    pub(super) by_pods: Names,
    /// Whether both directories are watched, so that no later change by the agent is missed.
    pub(super) watched: bool,
}

impl Touched {
    /// The first look of a watch: what happened before is not known. A socket with other access rights than the agent
    /// gave it, as far as is known, has been changed by a pod.
    pub(super) fn first() -> Self {
        Touched { by_agent: Names::default(), by_pods: Names::Any, watched: true }
    }
}

/// The state of the stable directory after the last synchronisation.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// `None` before the first check.
    left: Option<HashMap<OsString, FileId>>,
    /// Files other than sockets that existed before the first check, and so belong to the administrator.
    spared: BTreeSet<OsString>,
    /// The access rights of the sockets last found in the agent's directory.
    granted: Granted,
    /// New sockets that are not linked yet, with their access rights and since when they have had them.
    settling: HashMap<FileId, (Access, Instant)>,
    /// Sockets with other access rights, and whether a pod may have changed them; the event of a change by the agent may
    /// follow.
    suspected: HashMap<FileId, bool>,
    /// Whether the last look restored access rights, which caused events.
    pub(super) restored: bool,
    /// Whether the last look left something of others in the stable directory.
    pub(super) is_wrong: bool,
    /// Whether the agent has had a socket at the top level of its directory.
    pub(super) seen: bool,
    /// Links of the agent's directory that are not followed.
    pub(super) leading_out: BTreeSet<OsString>,
    /// Whether the seal holds.
    pub(super) sealing: Option<Sealing>,
}

/// The changes to make in the stable directory.
#[derive(Debug)]
struct Work {
    remove: Vec<OsString>,
    link: Vec<OsString>,
    access: Option<Access>,
}

impl Work {
    fn is_done(&self) -> bool {
        self.remove.is_empty() && self.link.is_empty() && self.access.is_none()
    }
}

/// The open folders of a synchronisation.
#[derive(Debug)]
struct Folders<'a> {
    from: Option<OwnedFd>,
    to: OwnedFd,
    stable: &'a Path,
}

impl Linked {
    /// Nothing is linked yet; `granted` is from an earlier run.
    pub(super) fn with(granted: Granted) -> Self {
        Linked { granted, ..Linked::default() }
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
        let trouble = self.try_synchronise(names, stable, touched, &mut changes);
        (changes, trouble.err())
    }

    /// Whether a socket has a name in the stable directory.
    pub(super) fn links(&self, socket: FileId) -> bool {
        self.left.iter().flat_map(HashMap::values).any(|linked| *linked == socket)
    }

    /// Whether sockets wait until their access rights are settled.
    pub(super) fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    /// Whether another look is needed, even if nothing changes.
    pub(super) fn is_undecided(&self) -> bool {
        self.is_settling() || !self.suspected.is_empty() || self.restored
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
        let from = unless_missing(open(&names[0]))?;
        let mut offered = from.as_ref().map_or(Ok(Offered::default()), |from| agent_folder::offered(from, names))?;
        self.leading_out = std::mem::take(&mut offered.leading_out);
        self.seen |= !offered.sockets.is_empty();
        let mut wanted = offered.sockets;
        self.leave_unsettled(&mut wanted, &to, stable)?;
        let folders = Folders { from, to, stable };
        // At first for what an earlier run has left in it.
        let mut aside = if self.left.is_none() { Some(open_aside(stable)?) } else { None };
        let mut trouble = None;
        for _ in 0..MOST_PASSES {
            let work = self.compare(&folders, &wanted, changes)?;
            if work.is_done() {
                self.seal(&folders)?;
                trouble = None;
                break;
            }
            let aside = match &mut aside {
                Some(aside) => aside,
                none => none.insert(open_aside(stable)?),
            };
            let done = self.carry_out(&work, &folders, aside, &mut wanted, changes);
            trouble = Some(done.err().unwrap_or_else(|| {
                let others = io::Error::other("another process keeps changing it");
                FsError { action: "protect", path: stable.to_owned(), source: others }
            }));
        }
        aside.iter().for_each(sweep);
        self.is_wrong = trouble.is_some() && self.holds_others(&folders).unwrap_or(true);
        match trouble {
            Some(trouble) => Err(trouble),
            None => self.put_access_back(&folders, &wanted, touched, changes),
        }
    }

    fn seal(&mut self, folders: &Folders<'_>) -> Result<(), FsError> {
        self.sealing = Some(seal::seal(&folders.to).map_err(FsError::of("seal", folders.stable))?);
        Ok(())
    }

    /// Leaves out sockets that are new and not settled yet, and remembers the access rights of those that are.
    fn leave_unsettled(
        &mut self,
        wanted: &mut BTreeMap<OsString, Socket>,
        to: &OwnedFd,
        stable: &Path,
    ) -> Result<(), FsError> {
        let before = std::mem::take(&mut self.settling);
        if wanted.values().all(|socket| self.granted.get(socket.id, socket.born).is_some()) {
            return Ok(());
        }
        let linked: HashSet<_> = entries(to, stable)?.iter().map(|(_, stat)| id(stat)).collect();
        wanted.retain(|_, Socket { id, born, access, .. }| {
            if linked.contains(id) || self.granted.get(*id, *born).is_some() {
                return true;
            }
            let since = match before.get(id) {
                Some((same, since)) if same == access => *since,
                _ => Instant::now(),
            };
            if since.elapsed() >= SETTLES_IN {
                self.granted.set(*id, *born, access);
                return true;
            }
            self.settling.insert(*id, (access.clone(), since));
            false
        });
        Ok(())
    }

    fn compare(
        &mut self,
        folders: &Folders<'_>,
        wanted: &BTreeMap<OsString, Socket>,
        changes: &mut Changes,
    ) -> Result<Work, FsError> {
        let Folders { from, to, stable, .. } = folders;
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        let entries = entries(to, stable)?;
        let present: HashMap<_, _> = entries.iter().map(|(name, stat)| (name.clone(), id(stat))).collect();
        let is_wanted = |name: &OsString| wanted.get(name).map(|socket| socket.id);
        match &self.left {
            Some(left) => {
                let names = left.keys().chain(present.keys());
                changes.undone.extend(names.filter(|name| left.get(*name) != present.get(*name)).cloned());
            }
            None => {
                let others = entries
                    .iter()
                    .filter(|(_, stat)| matches!(kind(stat), FileType::RegularFile | FileType::Directory));
                self.spared.extend(others.map(|(name, _)| name.clone()));
            }
        }
        let in_place = |name: &OsString, stat: &Stat| match is_wanted(name) {
            // One socket is renamed over the other.
            Some(wanted) => wanted == id(stat) || kind(stat) == FileType::Socket,
            None => self.spared.contains(name),
        };
        let remove =
            entries.iter().filter(|(name, stat)| !in_place(name, stat)).map(|(name, _)| name.clone()).collect();
        let link = wanted.keys().filter(|name| is_wanted(name) != present.get(*name).copied()).cloned().collect();
        self.left = Some(present);
        Ok(Work { remove, link, access: other_access(from.as_ref(), to, stable)? })
    }

    /// Whether the stable directory contains something that is neither the agent's nor the administrator's.
    fn holds_others(&self, Folders { to, stable, .. }: &Folders<'_>) -> Result<bool, FsError> {
        let is_other = |(name, stat): &(OsString, Stat)| !self.spared.contains(name) && !self.granted.knows(id(stat));
        Ok(entries(to, stable)?.iter().any(is_other))
    }

    /// Unseals the stable directory for one step, because pods can change it in the meantime.
    fn open<T>(&mut self, folders: &Folders<'_>, step: impl FnOnce() -> Result<T, FsError>) -> Result<T, FsError> {
        seal::unseal(&folders.to).map_err(FsError::of("unseal", folders.stable))?;
        let done = step();
        self.seal(folders)?;
        done
    }

    fn carry_out(
        &mut self,
        work: &Work,
        folders: &Folders<'_>,
        aside: &Folder,
        wanted: &mut BTreeMap<OsString, Socket>,
        changes: &mut Changes,
    ) -> Result<(), FsError> {
        let Folders { to, stable, .. } = folders;
        let mut first_trouble = match &work.access {
            Some(access) => {
                let failed = FsError::of("copy the access rights of the agent's directory to", stable);
                self.open(folders, || access.restore(to).map_err(failed))
            }
            None => Ok(()),
        };
        for name in &work.remove {
            match self.open(folders, || folders.remove(name, aside)) {
                Ok(()) => {
                    self.left.get_or_insert_default().remove(name);
                    changes.dropped.extend((!changes.undone.contains(name)).then(|| name.clone()));
                }
                Err(error) => first_trouble = first_trouble.and(Err(error)),
            }
        }
        for name in &work.link {
            let linked = match folders.prepare(&wanted[name], name, aside) {
                Ok(true) => self.open(folders, || folders.place(name, aside)).map(|()| true),
                other => other,
            };
            match linked {
                Ok(true) => {
                    self.left.get_or_insert_default().insert(name.clone(), wanted[name].id);
                    changes.linked.push(name.clone());
                }
                Ok(false) => _ = wanted.remove(name),
                Err(error) => first_trouble = first_trouble.and(Err(error)),
            }
        }
        first_trouble
    }

    /// Restores the access rights of sockets that a pod has changed. Only the second look that finds them does so: by
    /// then, the event of a change by the agent has been read. While a pod changes them too, they are not taken for the
    /// agent's.
    fn put_access_back(
        &mut self,
        folders: &Folders<'_>,
        wanted: &BTreeMap<OsString, Socket>,
        touched: &Touched,
        changes: &mut Changes,
    ) -> Result<(), FsError> {
        self.restored = false;
        let is_wanted = |id| wanted.values().any(|socket| socket.id == id);
        if touched.watched {
            let mut seen = HashSet::new();
            for (name, socket) in wanted.iter().filter(|(_, socket)| seen.insert(socket.id)) {
                let aliases = wanted.iter().filter(|(_, other)| other.id == socket.id).map(|(alias, _)| alias);
                let aliases: Vec<_> = aliases.chain([&socket.name]).collect();
                let by_agent = aliases.iter().any(|alias| touched.by_agent.contain(alias));
                let by_pods = aliases.iter().any(|alias| touched.by_pods.contain(alias));
                self.judge(folders, name, socket, by_agent, by_pods, changes)?;
            }
        }
        self.suspected.retain(|id, _| is_wanted(*id));
        self.granted.keep_only(is_wanted);
        Ok(())
    }

    fn judge(
        &mut self,
        folders: &Folders<'_>,
        name: &OsString,
        socket: &Socket,
        by_agent: bool,
        by_pods: bool,
        changes: &mut Changes,
    ) -> Result<(), FsError> {
        let suspected = self.suspected.remove(&socket.id);
        let granted = self.granted.get(socket.id, socket.born);
        let by_pods = by_pods || suspected == Some(true);
        match granted {
            None => self.granted.set(socket.id, socket.born, &socket.access),
            Some(granted) if *granted == socket.access => {}
            Some(_) if by_agent && !by_pods => self.granted.set(socket.id, socket.born, &socket.access),
            Some(_) if suspected.is_none() => _ = self.suspected.insert(socket.id, by_pods),
            Some(granted) => {
                let path = folders.stable.join(name);
                put_back(&folders.to, name, socket.id, granted)
                    .map_err(FsError::of("restore the access rights of", &path))?;
                self.restored = true;
                changes.undone.insert(name.clone());
            }
        }
        Ok(())
    }
}

impl Folders<'_> {
    /// Links a socket aside. False if the agent has removed it in the meantime.
    fn prepare(&self, socket: &Socket, name: &OsString, aside: &Folder) -> Result<bool, FsError> {
        let path = self.stable.join(name);
        let failed = || FsError::of("link the agent's socket to", &path);
        unlink(aside, LINK).map_err(failed())?;
        match rustix::fs::linkat(CWD, by_descriptor(&socket.handle), aside, LINK, AtFlags::SYMLINK_FOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            linked => linked.map(|()| true).map_err(failed()),
        }
    }

    /// Moves the prepared link to `name`. The next one replaces what rename(2) leaves of two links to the same file.
    fn place(&self, name: &OsString, aside: &Folder) -> Result<(), FsError> {
        let path = self.stable.join(name);
        rustix::fs::renameat(aside, LINK, &self.to, name).map_err(FsError::of("link the agent's socket to", &path))
    }

    /// Moves a file, or a folder with its content, out of the stable directory, because pods may have created one.
    fn remove(&self, name: &OsString, aside: &Folder) -> Result<(), FsError> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let moved = format!("moved-{}-{}", now.tv_sec, now.tv_nsec);
        match rustix::fs::renameat(&self.to, name, aside, moved) {
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(errno) => Err(FsError::of("remove", &self.stable.join(name))(errno)),
        }
    }
}

/// The folder beside the stable directory, on the same mount. Only root can enter it.
fn open_aside(stable: &Path) -> Result<Folder, FsError> {
    let name = stable.file_name().unwrap_or_default().to_string_lossy();
    let path = stable.with_file_name(format!(".{}.aside", name.trim_start_matches('.')));
    fsx::ensure_dir(&path, 0o700)?;
    let folder = open(&path)?;
    check_owner(&folder, &path)?;
    Ok(Folder::of(folder, path))
}

fn unlink(folder: &Folder, name: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        unlinked => unlinked,
    }
}

/// Removes what was moved aside. A pod may still write into a folder of its own; the next change continues.
fn sweep(aside: &Folder) {
    for name in aside.names().unwrap_or_default() {
        if let Err(error) = aside.remove_within(&name, SWEEPS) {
            debug!(error = report::chain(&error), "what was removed from the stable directory still exists");
        }
    }
}

fn check_owner(folder: &OwnedFd, path: &Path) -> Result<(), FsError> {
    let stat = rustix::fs::fstat(folder).map_err(FsError::of("inspect", path))?;
    // Only the driver seals it; a pod may have given it away just before.
    let is_sealed = seal::is_sealed(folder).map_err(FsError::of("inspect", path))?;
    if is_sealed || stat.st_uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let other = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
    Err(FsError { action: "use as the stable directory", path: path.to_owned(), source: other })
}

/// The access rights that the stable directory should have, if it has others: a user who may not enter the agent's
/// directory must not reach its sockets through ours.
fn other_access(from: Option<&OwnedFd>, to: &OwnedFd, stable: &Path) -> Result<Option<Access>, FsError> {
    let look = || {
        let access = |folder: &OwnedFd| Access::of(folder, &rustix::fs::fstat(folder)?);
        let ours = access(to)?;
        let wanted = from.map_or_else(|| Ok(ours.clone()), access)?.of_ours();
        Ok((wanted != ours).then_some(wanted))
    };
    let failed = FsError::of("compare the access rights of the agent's directory with those of", stable);
    look().map_err(|error: io::Error| failed(error))
}

/// Through the stable directory, where a change is not mistaken for one by the agent.
fn put_back(to: &OwnedFd, name: &OsString, expected: FileId, access: &Access) -> io::Result<()> {
    let socket = rustix::fs::openat(to, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if id(&rustix::fs::fstat(&socket)?) == expected { access.restore(&socket) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
