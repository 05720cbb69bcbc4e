//! Waits for processes: those of commands and, as the first process of a container, orphans, which would otherwise
//! remain as zombies.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, getpid, wait, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// See the module documentation.
pub(super) struct Children {
    changes: Signal,
    /// Orphans of the container become children of this process.
    init: bool,
}

impl Children {
    /// Receives a signal when a child ends.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { changes: signal(SignalKind::child())?, init: getpid() == Pid::INIT })
    }

    /// Waits for orphans forever.
    pub(super) async fn adopt(&mut self) -> ! {
        loop {
            self.changes.recv().await;
            self.reap(None);
        }
    }

    /// Runs a command to its end.
    pub(super) async fn run(&mut self, command: &mut Command) -> io::Result<ExitStatus> {
        let child = command.spawn()?.id();
        let child = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        loop {
            if let Some(status) = self.ended(child)? {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            self.changes.recv().await;
        }
    }

    fn ended(&self, child: Pid) -> Result<Option<WaitStatus>, Errno> {
        let ended = waitpid(Some(child), WaitOptions::NOHANG)?;
        if let Some((_, status)) = ended {
            return Ok(Some(status));
        }
        Ok(self.reap(Some(child)))
    }

    /// Reaps all processes that have ended; returns the status of `child` if it is among them.
    fn reap(&self, child: Option<Pid>) -> Option<WaitStatus> {
        if !self.init {
            return None;
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if Some(pid) == child => return Some(status),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }
}
