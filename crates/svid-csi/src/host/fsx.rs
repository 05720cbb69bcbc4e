//! File system calls whose errors contain the attempted action and the path.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use svid_csi_core::error::Class;

/// A failed file system call.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", .path.display())]
pub struct FsError {
    /// The attempted action, as a verb.
    pub action: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

impl FsError {
    /// The error of `action` on `path`, for `map_err`.
    pub fn of<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> FsError {
        move |source| FsError { action, path: path.to_owned(), source: source.into() }
    }

    /// The class of the failure.
    pub fn class(&self) -> Class {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Class::Exhausted,
            _ => Class::Internal,
        }
    }
}

/// Replaces the file at `path` so that a reader sees the old or the new contents, never a part.
///
/// Not durable against power loss: the files written here describe mounts, which do not survive a reboot either.
///
/// # Errors
/// [`FsError`]; the old file is then unchanged.
pub fn write_atomic(path: &Path, contents: &[u8], mode: u32) -> Result<(), FsError> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, contents, mode)
        .and_then(|()| fs::rename(&temporary, path).map_err(FsError::of("replace", path)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Whether `path` exists, following links.
///
/// # Errors
/// [`FsError`] if that cannot be determined, which does not mean "no".
pub fn exists(path: &Path) -> Result<bool, FsError> {
    path.try_exists().map_err(FsError::of("inspect", path))
}

/// Removes the files in a folder for whose names `is_wanted` returns false, if the folder exists. Returns the files
/// that could not be removed.
///
/// # Errors
/// [`FsError`] if they cannot be listed.
pub fn sweep(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<FsError>, FsError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FsError::of("list", folder))?,
    };
    let mut left = Vec::new();
    for entry in entries {
        let path = entry.map_err(FsError::of("list", folder))?.path();
        if !path.file_name().and_then(|name| name.to_str()).is_some_and(&is_wanted) {
            left.extend(remove_file(&path).err());
        }
    }
    Ok(left)
}

/// Creates the file at `path`, which must not exist, or replaces a leftover.
///
/// # Errors
/// [`FsError`].
pub fn write_new(path: &Path, contents: &[u8], mode: u32) -> Result<(), FsError> {
    let mut file = create(path, mode)?;
    file.write_all(contents).map_err(FsError::of("write", path))
}

fn create(path: &Path, mode: u32) -> Result<File, FsError> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(mode);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path).map_err(FsError::of("remove the leftover", path))?;
            options.open(path)
        }
        opened => opened,
    }
    .map_err(FsError::of("create", path))
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Creates the folder `path` with `mode` if it is missing; its parent must exist.
///
/// # Errors
/// [`FsError`], also if `path` is not a folder, or is a link to one.
pub fn ensure_dir(path: &Path, mode: u32) -> Result<(), FsError> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_folder(path) => Ok(()),
        created => created.map_err(FsError::of("create the folder", path)),
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Ensures that a file or folder still exists after a power loss, if its file system can (fsync(2)).
///
/// # Errors
/// [`FsError`].
pub fn sync(path: &Path) -> Result<(), FsError> {
    match File::open(path).and_then(|file| file.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced.map_err(FsError::of("write to disk", path)),
    }
}

/// Like [`sync`], for files, their folder and the folder above it.
///
/// # Errors
/// [`FsError`].
pub fn sync_in(folder: &Path, files: &[&Path]) -> Result<(), FsError> {
    files.iter().copied().chain([folder]).chain(folder.parent()).try_for_each(sync)
}

/// Removes a file that may be missing.
///
/// # Errors
/// [`FsError`].
pub fn remove_file(path: &Path) -> Result<(), FsError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FsError::of("remove", path)(error)),
        _ => Ok(()),
    }
}
