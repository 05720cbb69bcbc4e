//! A driver whose wall clock differs from that of the machine.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use nix::errno::Errno;
use nix::libc;
use rustix::process::{ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

use super::registers::{self, Call};
use super::tracee::Tracee;

const TIMER: &str = "anon_inode:[timerfd]";

/// How far its clock is ahead.
#[derive(Debug, Default)]
pub(super) struct Clock {
    seconds: AtomicI64,
    /// It was set, and the driver has not noticed yet.
    jumped: AtomicBool,
}

/// A call whose result depends on the clock.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    /// The time is written to this address.
    Time(u64),
    /// A timer that ends when the clock is set is read.
    Timer(Call),
}

impl Clock {
    pub(super) fn ahead(seconds: i64) -> Self {
        Self { seconds: seconds.into(), ..Self::default() }
    }

    /// Sets it, which a process notices as if the machine's clock had been set (`TFD_TIMER_CANCEL_ON_SET` in timerfd_create(2)).
    pub(super) fn set(&self, process: nix::unistd::Pid, seconds: i64) -> io::Result<()> {
        self.seconds.store(seconds, Ordering::Release);
        self.jumped.store(true, Ordering::Release);
        let process = Pid::from_raw(process.as_raw()).ok_or(Errno::ESRCH)?;
        let handle = pidfd_open(process, PidfdFlags::empty())?;
        let folder = format!("/proc/{}/fd", process.as_raw_nonzero());
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_timer = fs::read_link(&path).is_ok_and(|target| target.as_os_str() == TIMER);
            let number: Option<ForeignRawFd> = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let Some(number) = number.filter(|_| is_timer) else { continue };
            let timer = pidfd_getfd(&handle, number, PidfdGetfdFlags::empty())?;
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            let at_once = Itimerspec { it_interval: none, it_value: Timespec { tv_sec: 0, tv_nsec: 1 } };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &at_once)?;
        }
        Ok(())
    }

    /// What a call reads that is about to be made.
    pub(super) fn reading(&self, call: &Call, tracee: Tracee) -> Option<Reading> {
        let is_wall = |clock: u64| {
            [libc::CLOCK_REALTIME, libc::CLOCK_REALTIME_COARSE].map(i64::from).contains(&clock.cast_signed())
        };
        match call.number {
            libc::SYS_clock_gettime if is_wall(call.args[0]) => Some(Reading::Time(call.args[1])),
            libc::SYS_gettimeofday => Some(Reading::Time(call.args[0])),
            libc::SYS_read if self.jumped.load(Ordering::Acquire) => {
                tracee.descriptor(call.args[0]).filter(|target| target.as_os_str() == TIMER)?;
                Some(Reading::Timer(*call))
            }
            _ => None,
        }
    }

    /// Changes the result of a call that has just been made.
    pub(super) fn change(&self, reading: &Reading, thread: nix::unistd::Pid) -> nix::Result<()> {
        let tracee = Tracee(thread);
        match reading {
            Reading::Time(address) => {
                let seconds = self.seconds.load(Ordering::Acquire);
                if let Some(now) = tracee.number(*address).filter(|_| seconds != 0) {
                    tracee.write(*address, now.wrapping_add_signed(seconds)).map_err(|_| Errno::EFAULT)?;
                }
                Ok(())
            }
            Reading::Timer(call) if self.jumped.swap(false, Ordering::AcqRel) => {
                registers::fail(thread, call, Errno::ECANCELED)
            }
            Reading::Timer(_) => Ok(()),
        }
    }
}

/// Hides the kernel's page that tells the time without a call (vdso(7)) from a program that has not begun yet.
pub(super) fn hide_page(thread: nix::unistd::Pid) -> io::Result<()> {
    const END: u64 = 0;
    const IGNORED: u64 = 1;
    const PAGE_WITH_CLOCKS: u64 = 33;
    let tracee = Tracee(thread);
    let number = |address| tracee.number(address).ok_or_else(|| io::Error::other("the stack cannot be read"));
    let mut at = registers::stack(thread)?;
    // The number of arguments, the arguments, and the environment, each with a zero at its end; then pairs (getauxval(3)).
    at += 8 * (number(at)? + 2);
    while number(at)? != END {
        at += 8;
    }
    at += 8;
    loop {
        match number(at)? {
            END => return Ok(()),
            PAGE_WITH_CLOCKS => return tracee.write(at, IGNORED),
            _ => at += 16,
        }
    }
}
