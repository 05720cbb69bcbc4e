//! Where the report goes: a complete file, or none.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::jiff::Timestamp;

use crate::arguments::ReportArguments;

/// Finds out early that the report could not be written.
pub(super) fn check(options: &ReportArguments) -> Result<()> {
    if options.dry_run {
        return Ok(());
    }
    match &options.output {
        Some(path) if is_stdout(path) => {
            ensure!(
                !io::stdout().is_terminal(),
                "the report is an archive, and not for a terminal: redirect it to a file"
            );
        }
        Some(path) if !options.force && fs::symlink_metadata(path).is_ok() => bail!(exists(path)),
        _ => {}
    }
    Ok(())
}

/// Writes the archive, and says where it is.
pub(super) fn write(options: &ReportArguments, archive: &[u8]) -> Result<String> {
    let path = match &options.output {
        Some(path) if is_stdout(path) => {
            let mut stdout = io::stdout().lock();
            let written = stdout.write_all(archive).and_then(|()| stdout.flush());
            written.context("cannot write the report to stdout; it is not complete")?;
            return Ok("the report is complete".to_owned());
        }
        Some(path) => path.clone(),
        None => PathBuf::from(format!("svid-csi-report-{}.tar.gz", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"))),
    };
    // Beside it, and under its own name only when it is whole.
    let begun = PathBuf::from(format!("{}.begun", path.display()));
    let placed = put(&begun, archive).and_then(|()| place(&begun, &path, options.force));
    if placed.is_err() {
        let _ = fs::remove_file(&begun);
    }
    match placed {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(exists(&path)),
        placed => placed.with_context(|| format!("cannot write {}", path.display()))?,
    }
    Ok(path.display().to_string())
}

fn put(begun: &Path, archive: &[u8]) -> io::Result<()> {
    match fs::remove_file(begun) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(begun)?;
    file.write_all(archive)?;
    file.sync_all()
}

fn place(begun: &Path, path: &Path, force: bool) -> io::Result<()> {
    if force {
        return fs::rename(begun, path);
    }
    // Unlike rename, this replaces nothing.
    fs::hard_link(begun, path)?;
    fs::remove_file(begun)
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn exists(path: &Path) -> String {
    format!("{} exists already: give another --output, or --force to replace it", path.display())
}
