//! The driver's paths as this process reaches them: it may have another mount namespace than the driver.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

/// Where the driver's paths begin.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    root: PathBuf,
    /// The driver's process, in this process's PID namespace.
    pub(super) pid: Option<i32>,
}

impl Paths {
    /// Finds the process that listens on the admin socket.
    pub(super) async fn of(socket: &Path) -> Self {
        let connected = UnixStream::connect(socket).await.and_then(|stream| stream.peer_cred());
        let pid = connected.ok().and_then(|peer| peer.pid()).filter(|pid| *pid > 0);
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let is_elsewhere = pid.is_some_and(|pid| {
            let of_driver = namespace(&pid.to_string());
            of_driver.is_some() && of_driver != namespace("self")
        });
        let root = match pid {
            Some(pid) if is_elsewhere => PathBuf::from(format!("/proc/{pid}/root")),
            _ => PathBuf::from("/"),
        };
        Self { root, pid }
    }

    /// The paths of that process, or those of this one.
    pub(super) fn of_host(pid: Option<i32>) -> Self {
        let root = pid.map_or_else(|| PathBuf::from("/"), |pid| PathBuf::from(format!("/proc/{pid}/root")));
        Self { root, pid }
    }

    /// One of the driver's paths.
    pub(super) fn of_driver(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}
