//! The only place that reads the wall clock, and detects when it jumps.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Now.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> SystemTime {
    #[cfg(test)]
    if let Some(wall) = super::simulated::change(|machine| machine.wall) {
        return wall;
    }
    SystemTime::now()
}

/// The time since the machine was booted, including the time it was asleep.
pub fn since_boot() -> Duration {
    #[cfg(test)]
    if let Some(booted) = super::simulated::change(|machine| machine.booted) {
        return booted;
    }
    let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(tv_sec).unwrap_or_default(), u32::try_from(tv_nsec).unwrap_or_default())
}

/// Wakes tasks that sleep until a time of day after the clock was set or the machine was asleep, because timers of the
/// runtime notice neither.
#[derive(Debug, Default)]
pub struct Jumps(Notify);

impl Jumps {
    /// Now, and the next jump after it, even if it is not awaited yet.
    pub fn now(&self) -> (SystemTime, Notified<'_>) {
        let jumped = self.0.notified();
        (now(), jumped)
    }

    /// Watches the clock until `stop`.
    ///
    /// # Errors
    /// None in practice: if the clock cannot be watched, that is logged once, and the driver continues.
    pub async fn watch(&self, stop: CancellationToken) -> io::Result<()> {
        match cancelled_by_jumps() {
            Ok(timer) => tokio::select! {
                error = self.notify(&timer) => warn!(%error, "the clock is no longer watched for jumps"),
                () = stop.cancelled() => return Ok(()),
            },
            Err(error) => warn!(%error, "the clock cannot be watched for jumps"),
        }
        stop.cancelled().await;
        Ok(())
    }

    async fn notify(&self, timer: &AsyncFd<OwnedFd>) -> io::Error {
        loop {
            let read = async {
                let mut ready = timer.readable().await?;
                ready.clear_ready();
                io::Result::Ok(rustix::io::read(timer, &mut [0_u8; 8]))
            };
            let jumped = match read.await {
                Err(error) => return error,
                Ok(read) => read == Err(Errno::CANCELED),
            };
            // Before any task reads the clock: a later jump is the next one.
            if let Err(errno) = arm(timer.get_ref()) {
                return errno.into();
            }
            if jumped {
                info!("the clock jumped; renewing what is due now");
                self.0.notify_waiters();
            }
        }
    }
}

/// A timer that never fires, and whose read(2) fails with ECANCELED when the clock is set or the machine wakes up
/// (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
fn cancelled_by_jumps() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Realtime, flags)?;
    arm(&timer)?;
    #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd that is never handed out stays valid")]
    AsyncFd::new(timer)
}

fn arm(timer: &OwnedFd) -> Result<(), Errno> {
    let never = Timespec { tv_sec: i64::from(u32::MAX), tv_nsec: 0 };
    let timer_value = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    rustix::time::timerfd_settime(timer, flags, &timer_value).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_jump_between_reading_the_clock_and_waiting_is_noticed() {
        let jumps = Jumps::default();
        let (_, jumped) = jumps.now();
        jumps.0.notify_waiters();
        tokio::time::timeout(Duration::from_secs(3600), jumped).await.unwrap();
    }
}
