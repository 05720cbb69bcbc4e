//! Leftovers in a target folder on which nothing is mounted any more.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use svid_csi_core::quoted::Quoted;

use super::source::is_root_of_mount;

/// The maximum number of inspected entries. More are not a mistake that can be fixed here.
const MOST_ENTRIES: usize = 256;
/// The maximum number of names in an error.
const MOST_NAMES: usize = 5;
/// The prefix of the names of our links and of the folders they lead to.
const OWN_PREFIX: &str = "..";

const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Removes from the folder `name` empty folders, and entries that belong to root and have a name that `is_ours`
/// accepts. Returns the first few names of other entries, safe to print; empty if nothing is left.
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
    /// The number of entries also limits the depth.
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
            true if is_root_of_mount(&stat)? => self.leave(Quoted::new(name)),
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
