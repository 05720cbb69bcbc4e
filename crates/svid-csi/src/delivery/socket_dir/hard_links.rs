//! Keeps the sockets of the agent's directory hard-linked into a directory that always exists and that others cannot
//! change.
//!
//! A hard link to a Unix socket leads to the same listener, and the agent still sees the caller's peer credentials.
//! Both directories are held open while they are compared, and neither may be a link, because the directory above may
//! belong to a user other than root.
//!
//! All pods of the node share the stable directory, so a pod that could add a socket to it would act as the agent for
//! all of them. It is sealed except while links are created or removed in it, and checked again once it is sealed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;
use svid_csi_core::state::FileId;

use super::access::{Access, Granted, by_descriptor};
use super::agent_folder::{self, Offered, Socket, entries, id, open, unless_missing};
use crate::host::fsx::FsError;
use crate::host::inotify::Names;
use crate::host::seal::{self, Sealing};

const TEMPORARY: &str = ".svid-csi.link";
/// How often changes by others while the directory was open are reverted in one go.
const MOST_PASSES: usize = 8;
/// How many looks may find different access rights before those of the agent are restored.
const MOST_LOOKS: u8 = 4;

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
    /// Other access rights that a socket was found with, and how often: the event of a change by the agent may follow.
    suspected: HashMap<FileId, (Access, u8)>,
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
    access: Option<Stat>,
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

    /// Whether the next look decides about changed access rights.
    pub(super) fn suspects_a_change(&self) -> bool {
        !self.suspected.is_empty()
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
        offered.sockets.remove(std::ffi::OsStr::new(TEMPORARY));
        self.leading_out = std::mem::take(&mut offered.leading_out);
        self.seen |= !offered.sockets.is_empty();
        for _ in 0..MOST_PASSES {
            let work = self.compare(from.as_ref(), &to, &offered.sockets, stable, changes)?;
            if work.remove.is_empty() && work.link.is_empty() && work.access.is_none() {
                self.sealing = Some(seal::seal(&to).map_err(FsError::of("seal", stable))?);
                return self.put_access_back(&to, &offered.sockets, stable, touched, changes);
            }
            seal::unseal(&to).map_err(FsError::of("unseal", stable))?;
            let done = self.carry_out(&work, &to, &offered.sockets, stable, changes);
            self.sealing = Some(seal::seal(&to).map_err(FsError::of("seal", stable))?);
            done?;
        }
        let others = io::Error::other("another process keeps changing it");
        Err(FsError { action: "protect", path: stable.to_owned(), source: others })
    }

    fn compare(
        &mut self,
        from: Option<&OwnedFd>,
        to: &OwnedFd,
        wanted: &BTreeMap<OsString, Socket>,
        stable: &Path,
        changes: &mut Changes,
    ) -> Result<Work, FsError> {
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        let entries = entries(to, stable)?;
        let present: HashMap<_, _> = entries.iter().map(|(name, stat)| (name.clone(), id(stat))).collect();
        let is_wanted = |name: &OsString| wanted.get(name).map(|socket| socket.id);
        match &self.left {
            Some(left) => {
                let names = left.keys().chain(present.keys()).filter(|name| *name != TEMPORARY);
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
        Ok(Work { remove, link, access: from.map_or(Ok(None), |from| other_access(from, to, stable))? })
    }

    fn carry_out(
        &mut self,
        work: &Work,
        to: &OwnedFd,
        wanted: &BTreeMap<OsString, Socket>,
        stable: &Path,
        changes: &mut Changes,
    ) -> Result<(), FsError> {
        let left = self.left.get_or_insert_default();
        let mut first_trouble = work.access.as_ref().map_or(Ok(()), |theirs| copy_access(theirs, to, stable));
        for name in &work.remove {
            match remove(to, name, stable) {
                Ok(()) => {
                    left.remove(name);
                    changes.dropped.extend((name != TEMPORARY && !changes.undone.contains(name)).then(|| name.clone()));
                }
                Err(error) => first_trouble = first_trouble.and(Err(error)),
            }
        }
        for name in &work.link {
            match link(&wanted[name], to, name, stable) {
                Ok(true) => {
                    left.insert(name.clone(), wanted[name].id);
                    changes.linked.push(name.clone());
                }
                Ok(false) => {}
                Err(error) => first_trouble = first_trouble.and(Err(error)),
            }
        }
        first_trouble
    }

    /// Restores the access rights of sockets that a pod has changed. Only the second look that finds them does so: by
    /// then, the event of a change by the agent has been read.
    fn put_access_back(
        &mut self,
        to: &OwnedFd,
        wanted: &BTreeMap<OsString, Socket>,
        stable: &Path,
        touched: &Touched,
        changes: &mut Changes,
    ) -> Result<(), FsError> {
        for (name, Socket { id, born, access, .. }) in wanted {
            let granted = self.granted.get(*id, *born);
            if touched.by_agent.contain(name) || granted.is_none() && touched.watched {
                self.suspected.remove(id);
                self.granted.set(*id, *born, access);
                continue;
            }
            let Some(granted) = granted.filter(|granted| *granted != access) else {
                self.suspected.remove(id);
                continue;
            };
            let suspected = self.suspected.get(id);
            if suspected.is_none() && !touched.by_pods.contain(name) {
                continue;
            }
            let looks = suspected.map_or(0, |(_, looks)| *looks);
            if suspected.is_some_and(|(seen, _)| seen == access) || looks >= MOST_LOOKS {
                let path = stable.join(name);
                put_back(to, name, *id, granted).map_err(FsError::of("restore the access rights of", &path))?;
                self.suspected.remove(id);
                changes.undone.insert(name.clone());
            } else {
                self.suspected.insert(*id, (access.clone(), looks + 1));
            }
        }
        let is_wanted = |id| wanted.values().any(|socket| socket.id == id);
        self.suspected.retain(|id, _| is_wanted(*id));
        self.granted.keep_only(is_wanted)
    }
}

fn check_owner(folder: &OwnedFd, path: &Path) -> Result<(), FsError> {
    let stat = rustix::fs::fstat(folder).map_err(FsError::of("inspect", path))?;
    if stat.st_uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let other = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
    Err(FsError { action: "use as the stable directory", path: path.to_owned(), source: other })
}

/// The access rights of the agent's directory, if those of ours differ: a user who may not enter the agent's directory
/// must not reach its sockets through ours.
fn other_access(from: &OwnedFd, to: &OwnedFd, stable: &Path) -> Result<Option<Stat>, FsError> {
    let failed = || FsError::of("compare the access rights of the agent's directory with those of", stable);
    let (theirs, ours) = (rustix::fs::fstat(from).map_err(failed())?, rustix::fs::fstat(to).map_err(failed())?);
    let access = |stat: &Stat| (stat.st_mode & 0o777, stat.st_gid);
    Ok((access(&theirs) != access(&ours)).then_some(theirs))
}

fn copy_access(theirs: &Stat, to: &OwnedFd, stable: &Path) -> Result<(), FsError> {
    rustix::fs::fchown(to, None, Some(Gid::from_raw(theirs.st_gid)))
        .and_then(|()| rustix::fs::fchmod(to, Mode::from_raw_mode(theirs.st_mode & 0o777)))
        .map_err(FsError::of("copy the access rights of the agent's directory to", stable))
}

/// Through the stable directory, where a change is not mistaken for one by the agent.
fn put_back(to: &OwnedFd, name: &OsString, expected: FileId, access: &Access) -> io::Result<()> {
    let socket = rustix::fs::openat(to, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if id(&rustix::fs::fstat(&socket)?) == expected { access.restore(&socket) } else { Ok(()) }
}

/// Replaces the link `name` in one step. False if the agent has removed its socket in the meantime.
fn link(socket: &Socket, to: &OwnedFd, name: &OsString, stable: &Path) -> Result<bool, FsError> {
    let path = stable.join(name);
    let failed = || FsError::of("link the agent's socket to", &path);
    remove(to, &TEMPORARY.into(), stable)?;
    match rustix::fs::linkat(CWD, by_descriptor(&socket.handle), to, TEMPORARY, AtFlags::SYMLINK_FOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        linked => linked.map_err(failed())?,
    }
    rustix::fs::renameat(to, TEMPORARY, to, name).map_err(failed())?;
    // rename(2) of two links to the same file does nothing and leaves both.
    remove(to, &TEMPORARY.into(), stable)?;
    Ok(true)
}

/// Removes a file, or a folder with its content, because pods may have created one.
fn remove(folder: &OwnedFd, name: &OsString, path: &Path) -> Result<(), FsError> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(Errno::ISDIR) => fs::remove_dir_all(by_descriptor(folder).join(name)),
        Err(errno) => Err(errno.into()),
    }
    .map_err(FsError::of("remove", &path.join(name)))
}

#[cfg(test)]
mod tests;
