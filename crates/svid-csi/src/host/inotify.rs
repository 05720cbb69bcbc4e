//! Reports that files may have changed (inotify(7)).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// Changes of the names in a directory, and of the directory itself.
pub(crate) const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Changes of a file: it was written and closed, or its name or mode was changed.
const CONTENT: WatchFlags =
    WatchFlags::CLOSE_WRITE.union(WatchFlags::ATTRIB).union(WatchFlags::DELETE_SELF).union(WatchFlags::MOVE_SELF);

/// Files and directories that are watched. A deleted file is no longer watched when it is re-created.
#[derive(Debug)]
pub(crate) struct Inotify(AsyncFd<OwnedFd>);

impl Inotify {
    /// Creates an instance without watches.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd that is never handed out stays valid")]
        let events = AsyncFd::new(inotify::init(flags)?)?;
        Ok(Self(events))
    }

    /// Watches the file or directory at the path, following links. Returns whether it exists.
    pub(crate) fn add(&self, path: &Path, changes: WatchFlags) -> io::Result<bool> {
        match inotify::add_watch(&self.0, path, changes) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until something may have changed, and consumes all pending events. An overflow counts as a change.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        self.names(ReadFlags::all()).await.map(drop)
    }

    /// Like [`Inotify::changed`], but returns the names in watched directories that changed in one of these ways.
    pub(crate) async fn names(&self, ways: ReadFlags) -> io::Result<Names> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|events| drain(events.get_ref(), ways)) {
                Ok(drained) => return drained,
                Err(_would_block) => continue,
            }
        }
    }

    /// Like [`Inotify::names`], for the events that are already pending.
    pub(crate) fn names_so_far(&self, ways: ReadFlags) -> io::Result<Names> {
        match drain(self.0.get_ref(), ways) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Names::default()),
            drained => drained,
        }
    }
}

/// The number of changed names that are kept apart.
const MOST_NAMES: usize = 4096;

/// Names that have changed.
#[derive(Debug)]
pub(crate) enum Names {
    /// These.
    These(BTreeSet<OsString>),
    /// Any name may have changed: there were too many events.
    Any,
}

impl Default for Names {
    fn default() -> Self {
        Names::These(BTreeSet::new())
    }
}

impl Names {
    /// Adds others.
    pub(crate) fn add(&mut self, others: Names) {
        match (&mut *self, others) {
            (Names::These(these), Names::These(others)) if these.len() + others.len() <= MOST_NAMES => {
                these.extend(others);
            }
            _ => *self = Names::Any,
        }
    }

    /// Whether this name may have changed.
    pub(crate) fn contain(&self, name: &OsStr) -> bool {
        match self {
            Names::These(names) => names.contains(name),
            Names::Any => true,
        }
    }
}

/// Watches files in a folder, the folder, and its parent, because any of them may be replaced. If the folder does not
/// exist, watches the nearest existing ancestor. A replaced file is a different one, so watch again after each change.
///
/// # Errors
/// If the kernel refuses to watch them.
pub(crate) fn follow(folder: &Path, files: &[impl AsRef<Path>]) -> io::Result<Inotify> {
    loop {
        let inotify = Inotify::new()?;
        let mut missing = None;
        for folder in folder.ancestors() {
            if inotify.add(folder, NAMES)? {
                // Only needed if the folder itself is replaced. The parent may be inaccessible.
                let _ = folder.parent().map(|above| inotify.add(above, NAMES));
                break;
            }
            missing = Some(folder);
        }
        for file in files {
            inotify.add(file.as_ref(), CONTENT)?;
        }
        // A folder that appeared before its parent was watched.
        if !missing.is_some_and(|folder| std::fs::metadata(folder).is_ok_and(|found| found.is_dir())) {
            return Ok(inotify);
        }
    }
}

fn drain(events: &OwnedFd, ways: ReadFlags) -> io::Result<Names> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(events, &mut buffer);
    let mut names = BTreeSet::new();
    let (mut seen, mut overflow) = (false, false);
    loop {
        match reader.next() {
            Ok(event) => {
                seen = true;
                overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                let name = event.file_name().filter(|_| event.events().intersects(ways));
                names.extend(name.map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()));
            }
            Err(Errno::WOULDBLOCK) if seen => return Ok(if overflow { Names::Any } else { Names::These(names) }),
            Err(errno) => return Err(errno.into()),
        }
    }
}
