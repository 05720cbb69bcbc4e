//! Where the archive goes: a complete file, or none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::ReportOptions;
use crate::host::fsx::{self, FsError};

/// Where the archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file with a name of its own in the current folder.
    Named,
    /// This file.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file exists.
    #[error("{} exists already: give another --output, or --force to replace it", .0.display())]
    Exists(PathBuf),
    /// It exists, and is not a file.
    #[error("{} is not a file: give another --output", .0.display())]
    NotAFile(PathBuf),
    /// An archive on a terminal.
    #[error("the report is an archive, and not for a terminal: redirect it to a file")]
    Terminal,
    /// No salt for pseudonyms.
    #[error("the system has no random numbers")]
    Random,
    /// The archive cannot be made.
    #[error("the report cannot be packed")]
    Pack(#[source] io::Error),
    /// The file cannot be written.
    #[error("the report cannot be written (with --output - it goes to standard output)")]
    File(#[from] FsError),
    /// Standard output cannot be written.
    #[error("cannot write the report to stdout; it is not complete")]
    Stdout(#[source] io::Error),
    /// The list cannot be printed.
    #[error("cannot write to stdout")]
    Print(#[source] io::Error),
}

/// Finds out early that the archive could not be written.
///
/// # Errors
/// [`ReportError`].
pub(super) fn check(options: &ReportOptions) -> Result<(), ReportError> {
    match &options.destination {
        Destination::Stdout if io::stdout().is_terminal() => Err(ReportError::Terminal),
        Destination::Stdout | Destination::Named => Ok(()),
        Destination::File(path) => match fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => Err(ReportError::NotAFile(path.clone())),
            Ok(_) if !options.force => Err(ReportError::Exists(path.clone())),
            _ => Ok(()),
        },
    }
}

/// Writes the archive, and returns its path unless it is standard output.
///
/// # Errors
/// [`ReportError`]; then there is no new file.
pub(super) fn write(options: &ReportOptions, name: &str, archive: &[u8]) -> Result<Option<PathBuf>, ReportError> {
    let path = match &options.destination {
        Destination::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(archive).and_then(|()| stdout.flush()).map_err(ReportError::Stdout)?;
            return Ok(None);
        }
        Destination::Named => PathBuf::from(format!("{name}.tar.gz")),
        Destination::File(path) => path.clone(),
    };
    let beside = beside(&path);
    let created: io::Result<File> = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
    let file = created.map_err(FsError::of("create", &path))?;
    let written =
        write_all(file, &path, archive).map_err(ReportError::from).and_then(|()| place(&beside, &path, options.force));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map(|()| Some(path))
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

/// The system writes late; whether there is room is known after a sync. Errors name the file that was asked for.
fn write_all(mut file: File, path: &Path, archive: &[u8]) -> Result<(), FsError> {
    file.write_all(archive).and_then(|()| file.sync_all()).map_err(FsError::of("write", path))
}

fn place(beside: &Path, path: &Path, force: bool) -> Result<(), ReportError> {
    let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match renameat_with(CWD, beside, CWD, path, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(ReportError::Exists(path.to_owned())),
        // File systems such as NFS have no such flag.
        Err(Errno::INVAL) if !force => {
            if fsx::exists(path)? {
                return Err(ReportError::Exists(path.to_owned()));
            }
            fs::rename(beside, path).map_err(FsError::of("replace", path)).map_err(Into::into)
        }
        Err(errno) => Err(FsError::of("replace", path)(errno).into()),
    }
}
