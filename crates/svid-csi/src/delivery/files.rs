//! Delivery `files`: a folder on the data tmpfs, swapped as a whole.
//!
//! Laid out as the kubelet lays out its own projected volumes: visible names are links through `..data`, which is a link
//! to a folder of this moment. Replacing that one link changes certificate, key and bundle together.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use svid_csi_core::files::{FILE_MODE, FOLDER_MODE, FileName, RenderedFile};

use super::folders::{keep_only, remove_folder};
use crate::fsx::{self, FsError};

const CURRENT: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Replaces what a volume's folder shows. Readers see the old files or the new ones, never a mix.
///
/// # Errors
/// [`FsError`]; the volume then shows what it showed before.
pub fn install(folder: &Path, files: &[RenderedFile], group: Option<u32>, now: SystemTime) -> Result<(), FsError> {
    fsx::ensure_dir(folder, FOLDER_MODE)?;
    give(folder, group)?;
    let name = unused_name(folder, now)?;
    let written = write_folder(&folder.join(&name), files, group)
        .and_then(|()| link_names(folder, files))
        .and_then(|()| swap(folder, &name));
    let stale = if written.is_ok() { tidy(folder, &name, files) } else { remove_folder(&folder.join(&name)) };
    written.and(stale)
}

/// The files that a volume's folder shows, as they were installed; none where nothing was.
///
/// # Errors
/// [`FsError`].
pub fn shown(folder: &Path) -> Result<Vec<RenderedFile>, FsError> {
    let current = folder.join(CURRENT);
    let entries = match fs::read_dir(&current) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FsError::of("list", &current))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(FsError::of("list", &current))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| FileName::parse(name).ok());
        let Some(name) = name else { continue };
        let contents = fs::read(&path).map_err(FsError::of("read", &path))?.into();
        files.push(RenderedFile { name, contents });
    }
    Ok(files)
}

/// Whether a volume's folder shows anything.
///
/// # Errors
/// [`FsError`] where that cannot be told.
pub fn holds_any(folder: &Path) -> Result<bool, FsError> {
    fsx::exists(&folder.join(CURRENT))
}

/// Takes away all that a volume's folder shows: with one step, then whatever it was.
///
/// # Errors
/// [`FsError`].
pub fn take_away(folder: &Path) -> Result<(), FsError> {
    fsx::remove_file(&folder.join(CURRENT))?;
    keep_only(folder, &[])
}

/// A name for a folder of this moment. The clock may read the same twice, and the folder that is shown is never written.
fn unused_name(folder: &Path, now: SystemTime) -> Result<String, FsError> {
    let mut moment = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    loop {
        let name = format!("..{}.{:09}", moment.as_secs(), moment.subsec_nanos());
        if !fsx::exists(&folder.join(&name))? {
            return Ok(name);
        }
        moment += Duration::from_nanos(1);
    }
}

fn give(path: &Path, group: Option<u32>) -> Result<(), FsError> {
    group.map_or(Ok(()), |group| chown(path, None, Some(group)).map_err(FsError::of("give to the fs-group", path)))
}

fn write_folder(folder: &Path, files: &[RenderedFile], group: Option<u32>) -> Result<(), FsError> {
    remove_folder(folder)?;
    fs::DirBuilder::new().mode(FOLDER_MODE).create(folder).map_err(FsError::of("create the folder", folder))?;
    give(folder, group)?;
    for file in files {
        let path = folder.join(file.name.as_str());
        fsx::write_new(&path, &file.contents, FILE_MODE)?;
        give(&path, group)?;
    }
    Ok(())
}

/// Points `..data` at the new folder. The last thing that may fail: a folder that is shown is never taken back.
fn swap(folder: &Path, name: &str) -> Result<(), FsError> {
    let next = folder.join(NEXT);
    fsx::remove_file(&next)?;
    symlink(name, &next).map_err(FsError::of("link", &next))?;
    let current = folder.join(CURRENT);
    fs::rename(&next, &current).map_err(FsError::of("swap", &current))
}

/// Makes sure that every visible name leads through `..data`.
fn link_names(folder: &Path, files: &[RenderedFile]) -> Result<(), FsError> {
    for file in files {
        let visible = folder.join(file.name.as_str());
        if fs::symlink_metadata(&visible).is_err() {
            let through = Path::new(CURRENT).join(file.name.as_str());
            symlink(through, &visible).map_err(FsError::of("link", &visible))?;
        }
    }
    Ok(())
}

/// Removes what earlier moments left: their folders, and names that are no longer written.
fn tidy(folder: &Path, name: &str, files: &[RenderedFile]) -> Result<(), FsError> {
    for entry in fs::read_dir(folder).map_err(FsError::of("list", folder))? {
        let path = entry.map_err(FsError::of("list", folder))?.path();
        let entry = path.file_name().and_then(|entry| entry.to_str()).unwrap_or_default();
        let kept = entry == name || entry == CURRENT || files.iter().any(|file| file.name.as_str() == entry);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !kept && metadata.is_dir() => remove_folder(&path)?,
            Ok(_) if !kept => fsx::remove_file(&path)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(folder: &Path, contents: &[u8], now: SystemTime) {
        let file = RenderedFile { name: FileName::parse("tls.crt").unwrap(), contents: contents.to_vec().into() };
        install(folder, &[file], None, now).unwrap();
    }

    #[test]
    fn what_is_shown_stays_whole_when_the_clock_reads_the_same_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("v");
        show(&folder, b"one", SystemTime::UNIX_EPOCH);
        let shown = fs::canonicalize(folder.join(CURRENT)).unwrap();
        let opened = fs::File::open(shown.join("tls.crt")).unwrap();
        show(&folder, b"two", SystemTime::UNIX_EPOCH);
        assert_ne!(fs::canonicalize(folder.join(CURRENT)).unwrap(), shown, "a folder that is shown is not written");
        assert_eq!(io::read_to_string(opened).unwrap(), "one");
        assert_eq!(fs::read(folder.join("tls.crt")).unwrap(), b"two");
    }
}
