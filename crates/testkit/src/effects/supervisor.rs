//! The thread that all stops of a driver's threads are reported to.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls::{Class, Touch, touched};
use super::clock::{self, Reading};
use super::registers::{self, Call};
use super::requests::requested;
use super::tracee::Tracee;
use super::{Act, Effect, Scope, Shared, Span, status_of};

/// How often a supervisor that holds a thread checks whether it may continue: nothing else wakes it.
const HELD: Duration = Duration::from_millis(1);

/// Starts the command, reports its process id, and supervises it until it ends.
pub(super) fn run(command: Command, scope: Scope, shared: &Shared, report: &Sender<io::Result<Pid>>) {
    let seized = seize(command);
    let process = seized.as_ref().ok().copied();
    let _ = report.send(seized);
    let Some(process) = process else { return };
    let mut supervisor = Supervisor { process, scope, shared, calls: HashMap::new(), held: None };
    let status = supervisor.until_the_end();
    shared.lock().ended = Some(status);
    shared.ended.notify_all();
}

fn seize(mut command: Command) -> io::Result<Pid> {
    let child = command.spawn()?;
    let process = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    waitpid(process, Some(WaitPidFlag::WUNTRACED))?;
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    if let Err(errno) = ptrace::seize(process, options) {
        let _ = kill(process, Signal::SIGKILL);
        waitpid(process, None)?;
        return Err(errno.into());
    }
    kill(process, Signal::SIGCONT)?;
    Ok(process)
}

/// A call between its two stops.
enum Pending {
    /// It does not count.
    Ignored,
    Effect(InCall),
    Clock(Reading),
}

/// An effect.
struct InCall {
    call: Call,
    /// Where it is in the trace.
    index: usize,
    /// The error that the call, which was skipped, ends with.
    fails: Option<Errno>,
    /// The driver ends once the call has returned.
    kills: bool,
}

struct Supervisor<'a> {
    process: Pid,
    scope: Scope,
    shared: &'a Shared,
    /// Threads between the two stops of a call.
    calls: HashMap<Pid, Pending>,
    /// The thread that stays stopped before its call.
    held: Option<Pid>,
}

impl Supervisor<'_> {
    fn until_the_end(&mut self) -> std::process::ExitStatus {
        loop {
            match self.next_stop() {
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    // A thread that is killed meanwhile has no registers any more.
                    let _ = self.call(thread);
                    if self.held != Some(thread) {
                        resume(thread, None);
                    }
                }
                Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                    if self.scope.clock.is_some() && event == libc::PTRACE_EVENT_EXEC {
                        // A program whose clock cannot be set shows that in the test that sets it.
                        let _ = clock::hide_page(thread);
                    }
                    resume(thread, None);
                }
                Ok(WaitStatus::Stopped(thread, signal)) => resume(thread, Some(signal)),
                Ok(WaitStatus::Exited(thread, code)) => {
                    self.calls.remove(&thread);
                    if thread == self.process {
                        return status_of(code, None);
                    }
                }
                Ok(WaitStatus::Signaled(thread, signal, _)) => {
                    self.calls.remove(&thread);
                    if thread == self.process {
                        return status_of(0, Some(signal));
                    }
                }
                Ok(WaitStatus::Continued(_) | WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    // Nothing is left to wait for, which only happens if the process was reaped elsewhere.
                    return status_of(errno as i32, None);
                }
            }
        }
    }

    /// Waits until a thread stops. The held one continues as soon as it is released.
    fn next_stop(&mut self) -> nix::Result<WaitStatus> {
        // Children of other threads are not ours to reap.
        let ours = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let Some(thread) = self.held else { return waitpid(Pid::from_raw(-1), Some(ours)) };
            if !self.shared.lock().holding {
                self.held = None;
                resume(thread, None);
                continue;
            }
            match waitpid(Pid::from_raw(-1), Some(ours | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => thread::sleep(HELD),
                stopped => return stopped,
            }
        }
    }

    /// A thread is stopped before a call, or after it.
    fn call(&mut self, thread: Pid) -> nix::Result<()> {
        match self.calls.remove(&thread) {
            None => {
                let entered = self.enter(thread);
                // Also what could not be read is a call that ends with a second stop.
                self.calls.insert(thread, entered.unwrap_or(Pending::Ignored));
                Ok(())
            }
            Some(Pending::Ignored) => Ok(()),
            Some(Pending::Effect(call)) => self.leave(thread, &call),
            Some(Pending::Clock(reading)) => self.shared.clock.change(&reading, thread),
        }
    }

    fn enter(&mut self, thread: Pid) -> nix::Result<Pending> {
        let is_watched = self.shared.lock().watching;
        if !is_watched && self.scope.clock.is_none() {
            return Ok(Pending::Ignored);
        }
        let call = registers::call(thread)?;
        if self.scope.clock.is_some()
            && let Some(reading) = self.shared.clock.reading(&call, Tracee(thread))
        {
            return Ok(Pending::Clock(reading));
        }
        if !is_watched {
            return Ok(Pending::Ignored);
        }
        let request = self.scope.server.and_then(|server| requested(&call, Tracee(thread), server));
        let Some(touch) = request.or_else(|| touched(&call, Tracee(thread))) else { return Ok(Pending::Ignored) };
        if touch.class != Class::Request && !self.scope.covers(touch.class, &touch.paths) {
            return Ok(Pending::Ignored);
        }
        let shared = self.shared;
        let mut state = shared.lock();
        if !state.watching {
            return Ok(Pending::Ignored);
        }
        let class = touch.class;
        let index = state.trace.len();
        let Touch { paths, detail, .. } = touch;
        let effect = Effect { class, paths, detail, failed: None };
        let mut in_call = InCall { call, index, fails: state.failing(&effect), kills: false };
        match state.add(effect) {
            Some(Act::KillBefore) => {
                registers::skip(thread)?;
                self.kill(thread)?;
            }
            Some(Act::KillAfter) => in_call.kills = true,
            Some(Act::Fail(errno, span)) => {
                in_call.fails = Some(errno);
                state.failing = (span == Span::ForGood).then_some((class, errno));
            }
            Some(Act::Hold) => {
                state.holding = true;
                self.held = Some(thread);
            }
            None => {}
        }
        if in_call.fails.is_some() {
            registers::skip(thread)?;
        }
        Ok(Pending::Effect(in_call))
    }

    /// Ends the driver, and the program that makes the call if it is another one that the driver has started.
    fn kill(&self, thread: Pid) -> nix::Result<()> {
        kill(self.process, Signal::SIGKILL)?;
        kill(thread, Signal::SIGKILL)
    }

    fn leave(&self, thread: Pid, in_call: &InCall) -> nix::Result<()> {
        if in_call.kills {
            self.kill(thread)?;
        }
        let failed = match in_call.fails {
            Some(errno) => {
                registers::fail(thread, &in_call.call, errno)?;
                Some(errno)
            }
            None => failure(registers::result(thread)?),
        };
        let mut state = self.shared.lock();
        // A watch that has ended meanwhile has taken the trace away.
        if let Some(effect) = state.trace.get_mut(in_call.index) {
            effect.failed = failed;
        }
        Ok(())
    }
}

fn failure(result: i64) -> Option<Errno> {
    const HIGHEST: i64 = 4095;
    (-HIGHEST..0).contains(&result).then(|| Errno::from_raw(i32::try_from(-result).unwrap_or_default()))
}

/// To the next call. A thread that is gone needs nothing.
fn resume(thread: Pid, signal: Option<Signal>) {
    let _ = ptrace::syscall(thread, signal);
}
