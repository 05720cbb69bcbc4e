//! Tells when the agent's directory, or anything in it, may have changed.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// A watch (inotify(7)) over a directory that may come and go, and over the one it lies in.
#[derive(Debug)]
pub(super) struct Watch {
    events: AsyncFd<OwnedFd>,
    directory: PathBuf,
    parent: PathBuf,
}

impl Watch {
    /// Watches `directory`; the directory above it must exist.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let parent = directory.parent().unwrap_or(Path::new("/")).to_owned();
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd that is never handed out stays valid")]
        let events = AsyncFd::new(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?;
        let watch = Watch { events, directory: directory.to_owned(), parent };
        watch.rearm()?;
        Ok(watch)
    }

    /// Watches the directory that is at the path now. To be called before looking into it, so that nothing is missed.
    pub(super) fn rearm(&self) -> io::Result<()> {
        inotify::add_watch(&self.events, &self.parent, NAMES)?;
        match inotify::add_watch(&self.events, &self.directory, NAMES) {
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until something may have changed, and swallows all that is known by then. An overflow counts as a change.
    pub(super) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            match ready.try_io(|events| drain(events.get_ref())) {
                Ok(drained) => return drained,
                Err(_would_block) => continue,
            }
        }
    }
}

fn drain(events: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(events, &mut buffer);
    let mut seen = false;
    loop {
        match reader.next() {
            Ok(_) => seen = true,
            Err(Errno::WOULDBLOCK) if seen => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
