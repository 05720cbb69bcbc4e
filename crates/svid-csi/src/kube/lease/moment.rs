//! A moment on two clocks: the runtime's, which timers use and which stops while the machine sleeps, and one that
//! continues (clock_gettime(2), CLOCK_BOOTTIME).

use std::time::Duration;

use tokio::time::Instant;

use crate::host::clock;

/// A moment, past as soon as either clock has reached it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) running: Instant,
    booted: Duration,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { running: Instant::now(), booted: clock::since_boot() }
    }

    pub(super) fn after(self, wait: Duration) -> Self {
        Self { running: self.running + wait, booted: self.booted + wait }
    }

    /// A moment that passed while the machine slept, although the timers stood still.
    #[cfg(test)]
    pub(super) fn asleep_since(wait: Duration) -> Self {
        Self { running: Instant::now() + wait, booted: clock::since_boot() }
    }

    pub(super) fn is_past(self) -> bool {
        let now = Self::now();
        now.running >= self.running || now.booted >= self.booted
    }
}
