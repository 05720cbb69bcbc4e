//! Removes the content that others have put into a folder, of any amount and depth.

use std::ffi::OsStr;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::Folder;
use crate::host::fsx::FsError;
use crate::host::seal;

/// How long content is removed to which others may be adding. The next attempt removes the rest.
const LONGEST: Duration = Duration::from_secs(5);
/// So many entries are removed in any case, so that a busy machine does not make a removal fail.
const FEW: u32 = 256;

/// How much may be removed in one change of a folder to which others may be adding.
#[derive(Debug)]
pub struct Budget {
    end: Instant,
    entries: u32,
}

impl Budget {
    /// So much time from now, or else few entries.
    pub fn of(time: Duration) -> Self {
        Budget { end: Instant::now() + time, entries: 0 }
    }

    /// Counts an entry. Whether to give up before it.
    pub fn is_spent(&mut self) -> bool {
        self.entries = self.entries.saturating_add(1);
        self.entries > FEW && Instant::now() > self.end
    }
}

impl Folder {
    /// Removes the entry with that name, if any: a file, or a folder with its content. Seals in it are removed.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), FsError> {
        self.remove_within(name, &mut Budget::of(LONGEST))
    }

    /// Like [`Folder::remove`], but gives up when the budget is spent.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn remove_within(&self, name: impl AsRef<OsStr>, budget: &mut Budget) -> Result<(), FsError> {
        let name = name.as_ref();
        if !self.is_folder(name)? {
            return self.unlink(name);
        }
        self.folder(name)?.clear(budget)?;
        self.remove_empty(name).map_err(self.failed("remove", name))
    }

    /// Removes all content. Folders in its folders are first moved up into it, so that depth costs nothing.
    pub(super) fn clear(&self, budget: &mut Budget) -> Result<(), FsError> {
        self.unseal()?;
        let mut moved = 0_u64;
        loop {
            let names = self.names()?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                if budget.is_spent() {
                    return Err(self.keeps_filling());
                }
                if !self.is_folder(&name)? {
                    self.unlink(&name)?;
                    continue;
                }
                let inner = self.folder(&name)?;
                inner.unseal()?;
                for child in inner.names()? {
                    if budget.is_spent() {
                        return Err(inner.keeps_filling());
                    }
                    if inner.is_folder(&child)? {
                        inner.folder(&child)?.unseal()?;
                        inner.move_up(&child, self, &mut moved)?;
                    } else {
                        inner.unlink(&child)?;
                    }
                }
                match self.remove_empty(&name) {
                    // It contained more than is listed at a time.
                    Ok(()) | Err(Errno::NOTEMPTY) => {}
                    Err(errno) => return Err(self.failed("remove", &name)(errno)),
                }
            }
        }
    }

    /// The failure of a removal that took too long.
    pub fn keeps_filling(&self) -> FsError {
        FsError::of("empty", &self.path)(io::Error::other("new files keep appearing in it"))
    }

    fn move_up(&self, name: &OsStr, to: &Folder, moved: &mut u64) -> Result<(), FsError> {
        loop {
            *moved += 1;
            let free = format!("..moved.{moved}");
            match rustix::fs::renameat_with(&self.fd, name, &to.fd, &free, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                done => return done.map_err(self.failed("move", name)),
            }
        }
    }

    fn remove_empty(&self, name: &OsStr) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn unlink(&self, name: &OsStr) -> Result<(), FsError> {
        let unlink = || rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
        let unlinked = match unlink() {
            Err(Errno::PERM) => {
                seal::unseal(self.file(name)?).map_err(self.failed("unseal", name))?;
                unlink()
            }
            unlinked => unlinked,
        };
        match unlinked {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", name)(errno)),
        }
    }
}
