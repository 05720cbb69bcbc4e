//! The one place that reads the wall clock, and notices when it jumps.

use std::io;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Now.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Wakes whoever sleeps until a time of day when the clock was set, or the machine was asleep: timers of the runtime
/// know of neither.
#[derive(Debug, Default)]
pub struct Jumps(Notify);

impl Jumps {
    /// Waits for the next jump.
    pub async fn next(&self) {
        self.0.notified().await;
    }

    /// Watches the clock until `stop`.
    ///
    /// # Errors
    /// None in practice: where the clock cannot be watched that is said once, and the driver goes on.
    pub async fn watch(&self, stop: CancellationToken) -> io::Result<()> {
        match cancelled_by_jumps() {
            Ok(timer) => tokio::select! {
                error = self.tell(&timer) => warn!(%error, "the clock is no longer watched for jumps"),
                () = stop.cancelled() => return Ok(()),
            },
            Err(error) => warn!(%error, "the clock cannot be watched for jumps"),
        }
        stop.cancelled().await;
        Ok(())
    }

    async fn tell(&self, timer: &AsyncFd<OwnedFd>) -> io::Error {
        loop {
            let read = async {
                let mut ready = timer.readable().await?;
                ready.clear_ready();
                io::Result::Ok(rustix::io::read(timer, &mut [0_u8; 8]))
            };
            match read.await {
                Err(error) => return error,
                Ok(Err(Errno::CANCELED)) => {
                    info!("the clock jumped; what is due is renewed now");
                    self.0.notify_waiters();
                }
                Ok(_) => {}
            }
            if let Err(errno) = arm(timer.get_ref()) {
                return errno.into();
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
