//! Files outside its folder that a node leaves when its pods are ended abruptly.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const SHIM_SOCKETS: &str = "/run/containerd/s";
const LOG_LINKS: &str = "/var/log/containers";
const NETWORK_RESULTS: &str = "/var/lib/cni/results";

/// Removes it: links to logs in `work`, results of the network named `network`, sockets without a listener.
pub fn remove(work: &Path, network: &str) -> Result<()> {
    for link in entries(LOG_LINKS) {
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(work)) {
            unlink(&link)?;
        }
    }
    for result in entries(NETWORK_RESULTS) {
        if result.file_name().is_some_and(|name| name.to_string_lossy().starts_with(network)) {
            unlink(&result)?;
        }
    }
    for socket in entries(SHIM_SOCKETS) {
        if UnixStream::connect(&socket).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            unlink(&socket)?;
        }
    }
    Ok(())
}

fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn unlink(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
