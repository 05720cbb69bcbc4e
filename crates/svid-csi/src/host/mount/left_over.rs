//! Leftovers in a target folder on which nothing is mounted any more.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use svid_csi_core::quoted::Quoted;

/// How much is inspected. More than that is not a mistake that can be fixed here.
const MOST_ENTRIES: usize = 256;
/// How much of it is named.
const MOST_NAMES: usize = 5;
/// Links of ours, and the folders they lead to, begin so.
const OWN_PREFIX: &str = "..";

const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Removes from the folder `name` empty folders, and what belongs to root and has a name that `is_ours` accepts.
/// Returns the first few names of what else there is, safe to print; empty if all is gone.
pub(super) fn clear(parent: &OwnedFd, name: &str, is_ours: &dyn Fn(&str) -> bool) -> Result<Vec<String>, Errno> {
    let mut sweep = Sweep { is_ours, looked_at: 0, left: Vec::new() };
    sweep.folder(parent, name)?;
    Ok(sweep.left)
}

struct Sweep<'a> {
    is_ours: &'a dyn Fn(&str) -> bool,
    looked_at: usize,
    left: Vec<String>,
}

impl Sweep<'_> {
    /// Depth is bounded by the number of entries.
    fn folder(&mut self, parent: &OwnedFd, name: &str) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat2(parent, name, flags, Mode::empty(), BELOW)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            self.looked_at += 1;
            match entry.file_name().to_str() {
                _ if self.looked_at > MOST_ENTRIES || self.left.len() > MOST_NAMES => self.leave("more"),
                Ok(name) => self.entry(&folder, name)?,
                Err(_) => self.leave(Quoted::new(bytes)),
            }
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
        let stat = rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
        let is_folder = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
        let is_own = stat.stx_uid == 0 && (name.starts_with(OWN_PREFIX) || (self.is_ours)(name));
        match is_folder {
            true if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) => self.leave(Quoted::new(name)),
            true => {
                let before = self.left.len();
                self.folder(folder, name)?;
                if self.left.len() == before {
                    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?;
                }
            }
            false if is_own => rustix::fs::unlinkat(folder, name, AtFlags::empty())?,
            false => self.leave(Quoted::new(name)),
        }
        Ok(())
    }

    fn leave(&mut self, name: impl ToString) {
        if self.left.len() <= MOST_NAMES {
            self.left.push(name.to_string());
        }
    }
}
