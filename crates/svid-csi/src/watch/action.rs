//! Runs the action on each change, one at a time. Changes that arrive while an action runs are combined.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch::Receiver;
use tracing::{error, info, warn};

use super::Action;
use super::children::Children;
use super::update::Update;

/// A process to send signals to, but never a later one with the same number.
struct SignalTarget {
    pid: Pid,
    signal: Signal,
    process: Process,
}

enum Process {
    NotSeenYet { reported: bool },
    Found(OwnedFd),
    Gone,
}

/// Acts on each update until there can be no more and all have been handled.
pub(super) async fn run(action: Option<Action>, mut updates: Receiver<Option<Update>>, mut children: Children) {
    let mut target = match action {
        Some(Action::Signal(pid, signal)) => {
            Some(SignalTarget { pid, signal, process: Process::NotSeenYet { reported: false } })
        }
        _ => None,
    };
    loop {
        let changed = tokio::select! {
            changed = updates.changed() => changed,
            never = children.adopt() => never,
        };
        if changed.is_err() {
            return;
        }
        let Some(update) = updates.borrow_and_update().clone() else { continue };
        match (&action, &mut target) {
            (Some(Action::Exec(words)), _) => exec(words, &update, &mut children).await,
            (_, Some(target)) => target.send(),
            _ => {}
        }
    }
}

async fn exec(words: &[String], update: &Update, children: &mut Children) {
    let [program, arguments @ ..] = words else { return };
    let mut command = Command::new(program);
    command.args(arguments).envs(update.environment()).stdin(Stdio::null());
    match children.run(&mut command).await {
        Ok(status) if status.success() => info!(command = program, "the command was run"),
        Ok(status) => error!(command = program, %status, "the command failed"),
        Err(error) => error!(command = program, %error, "the command cannot be run"),
    }
}

impl SignalTarget {
    fn send(&mut self) {
        if let Process::NotSeenYet { reported } = self.process {
            match pidfd_open(self.pid, PidfdFlags::empty()) {
                Ok(process) => self.process = Process::Found(process),
                Err(error) => {
                    if !reported {
                        warn!(pid = self.pid.as_raw_pid(), %error, "the process to send the signal to does not exist");
                    }
                    self.process = Process::NotSeenYet { reported: true };
                }
            }
        }
        let Process::Found(process) = &self.process else { return };
        match pidfd_send_signal(process, self.signal) {
            Ok(()) => info!(pid = self.pid.as_raw_pid(), signal = ?self.signal, "the signal was sent"),
            Err(Errno::SRCH) => {
                warn!(pid = self.pid.as_raw_pid(), "the process has ended; changes are no longer signalled");
                self.process = Process::Gone;
            }
            Err(error) => error!(pid = self.pid.as_raw_pid(), %error, "the signal cannot be sent"),
        }
    }
}
