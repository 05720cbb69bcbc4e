//! Delivery `files`: a folder on the data tmpfs, swapped as a whole.
//!
//! The layout is that of the kubelet's own projected volumes: visible names are links through `..data`, which is a link
//! to a timestamped folder. Replacing that one link changes certificate, key and bundle together.

use std::ffi::OsStr;
use std::io;
use std::time::{Duration, SystemTime};

use svid_csi_core::files::{FILE_MODE, FOLDER_MODE, FileName, RenderedFile};
use tracing::warn;

use super::volume_folder::{VolumeFolder, budget, remove_others};
use crate::host::beneath::{Budget, Folder};
use crate::host::fsx::FsError;
use crate::telemetry::report;

pub(super) const CURRENT: &str = "..data";
pub(super) const NEXT: &str = "..data_tmp";

/// What became of the files before a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormerFiles {
    /// They are gone.
    Removed,
    /// Some could not be removed.
    Left,
}

/// Replaces the files in a volume's folder. Readers see the old files or the new ones, never a mix.
///
/// Former files that cannot be removed do not fail the delivery, because its pod has the new ones: what is delivered must be
/// recorded. [`remove_former`] removes them later.
///
/// # Errors
/// [`FsError`]; the volume then still has its previous files.
pub fn install(
    volume: &VolumeFolder,
    files: &[RenderedFile],
    group: Option<u32>,
    now: SystemTime,
) -> Result<FormerFiles, FsError> {
    volume.change(|folder| {
        let mut budget = budget();
        let (name, moment) = new_moment(folder, now)?;
        let mut made = Vec::new();
        let written = fill(&moment, files, group)
            .and_then(|()| link_names(folder, files, &mut made, &mut budget))
            .and_then(|()| swap(folder, &name, group, &mut budget));
        match written {
            Ok(()) => {
                let is_new = |entry: &OsStr| {
                    entry == name.as_str() || entry == CURRENT || files.iter().any(|file| entry == file.name.as_str())
                };
                Ok(match remove_others(folder, &mut budget, is_new) {
                    Ok(()) => FormerFiles::Removed,
                    Err(left) => {
                        let (folder, error) = (folder.shown_path().display(), report::chain(&left));
                        warn!(%folder, error, "cannot remove former files from a volume");
                        FormerFiles::Left
                    }
                })
            }
            Err(error) => {
                take_back(folder, &name, &made).unwrap_or_else(|left| {
                    let (folder, error) = (folder.shown_path().display(), report::chain(&left));
                    warn!(%folder, error, "cannot remove undelivered files from a volume");
                });
                Err(error)
            }
        }
    })
}

/// Removes everything but the delivered files from a volume's folder. Nothing if there are none.
///
/// # Errors
/// [`FsError`].
pub fn remove_former(volume: &VolumeFolder) -> Result<(), FsError> {
    let folder = volume.seen();
    let Some(shown) = folder.link(CURRENT)?.filter(|shown| is_moment(shown)) else { return Ok(()) };
    let names = folder.folder(&shown)?.names()?;
    let is_current = |entry: &OsStr| entry == CURRENT || entry == shown || names.iter().any(|name| name == entry);
    if folder.names()?.iter().all(|entry| is_current(entry)) {
        return Ok(());
    }
    volume.change(|folder| remove_others(folder, &mut budget(), is_current))
}

/// Restores the names of the delivered files, which a socket may have replaced.
///
/// # Errors
/// [`FsError`].
pub fn restore_names(folder: &Folder, budget: &mut Budget) -> Result<(), FsError> {
    let Some(shown) = folder.link(CURRENT)?.filter(|shown| is_moment(shown)) else { return Ok(()) };
    for name in folder.folder(shown)?.names()? {
        let name = name.to_str().and_then(|name| FileName::parse(name).ok());
        if let Some(name) = name.filter(|name| !matches!(is_linked(folder, name.as_str()), Ok(true))) {
            link(folder, name.as_str(), budget)?;
        }
    }
    Ok(())
}

/// Removes all files from a volume's folder: first `..data` in one step, then everything else.
///
/// # Errors
/// [`FsError`].
pub fn take_away(volume: &VolumeFolder) -> Result<(), FsError> {
    volume.change(|folder| {
        let mut budget = budget();
        folder.remove_within(CURRENT, &mut budget)?;
        remove_others(folder, &mut budget, |_| false)
    })
}

/// Whether it is the name of a timestamped folder.
pub(super) fn is_moment(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.strip_prefix("..")?.split_once('.'));
    let is_number = |part: &str| !part.is_empty() && part.len() <= 20 && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.is_some_and(|(seconds, nanos)| is_number(seconds) && is_number(nanos))
}

/// Creates a folder named after the current time, or a slightly later one if the clock shows the same time again,
/// because the delivered folder is never written into.
fn new_moment(folder: &Folder, now: SystemTime) -> Result<(String, Folder), FsError> {
    let mut moment = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    loop {
        let name = format!("..{}.{:09}", moment.as_secs(), moment.subsec_nanos());
        match folder.create_folder(&name, FOLDER_MODE) {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => moment += Duration::from_nanos(1),
            created => return created.map(|created| (name, created)),
        }
    }
}

fn fill(moment: &Folder, files: &[RenderedFile], group: Option<u32>) -> Result<(), FsError> {
    for file in files {
        moment.create(file.name.as_str(), &file.contents, FILE_MODE, group)?;
    }
    moment.shape(FOLDER_MODE, group)?;
    moment.seal()
}

/// Points `..data` at the new folder. This is the last step that may fail, because a delivered folder is never rolled
/// back. Just before, the volume's folder gets the mode and group of files, because it may have had those of a socket.
fn swap(folder: &Folder, name: &str, group: Option<u32>, budget: &mut Budget) -> Result<(), FsError> {
    folder.remove_within(NEXT, budget)?;
    folder.symlink(name, NEXT)?;
    folder.shape(FOLDER_MODE, group)?;
    folder.rename(NEXT, CURRENT, budget)
}

/// Ensures that every visible name leads through `..data`. Adds the corrected ones to `made`.
fn link_names<'a>(
    folder: &Folder,
    files: &'a [RenderedFile],
    made: &mut Vec<&'a str>,
    budget: &mut Budget,
) -> Result<(), FsError> {
    for file in files {
        let visible = file.name.as_str();
        if !is_linked(folder, visible)? {
            made.push(visible);
            link(folder, visible, budget)?;
        }
    }
    Ok(())
}

fn is_linked(folder: &Folder, visible: &str) -> Result<bool, FsError> {
    let through = format!("{CURRENT}/{visible}");
    Ok(folder.link(visible)?.is_some_and(|target| target == through.as_str()))
}

fn link(folder: &Folder, visible: &str, budget: &mut Budget) -> Result<(), FsError> {
    folder.remove_within(visible, budget)?;
    folder.symlink(&format!("{CURRENT}/{visible}"), visible)
}

/// Removes the leftovers of a failed delivery: the folder with that name, and the visible names that lead nowhere.
fn take_back(folder: &Folder, name: &str, made: &[&str]) -> Result<(), FsError> {
    // Nothing of them may stay because the delivery has spent its own budget.
    let mut budget = budget();
    folder.remove_within(name, &mut budget)?;
    // Leftovers also disturb the next delivery, which reports them.
    let _ = folder.remove_within(NEXT, &mut budget);
    let shown = folder.link(CURRENT)?.filter(|shown| is_moment(shown));
    let shown = shown.map(|shown| folder.folder(shown)).transpose()?;
    for visible in made {
        if shown.as_ref().map_or(Ok(None), |shown| shown.stat(visible))?.is_none() {
            folder.remove_within(visible, &mut budget)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
