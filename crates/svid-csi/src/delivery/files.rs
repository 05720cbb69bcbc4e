//! Delivery `files`: a folder on the data tmpfs, swapped as a whole.
//!
//! Laid out as the kubelet lays out its own projected volumes: visible names are links through `..data`, which is a link
//! to a folder of this moment. Replacing that one link changes certificate, key and bundle together.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown, symlink};
use std::path::Path;
use std::time::SystemTime;

use svid_csi_core::files::{FILE_MODE, FOLDER_MODE, FileName, RenderedFile};

use super::folders::remove_folder;
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
    let moment = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = format!("..{}.{:09}", moment.as_secs(), moment.subsec_nanos());
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
pub fn holds_any(folder: &Path) -> bool {
    folder.join(CURRENT).exists()
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
