//! Clocks and chance of a simulated machine, for tests that are a function of a seed.
//!
//! They hold for the current thread, until the guard is dropped. A simulation runs on one thread, and switches machines by
//! setting the machine before each of their turns.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

/// A machine, as the code under test sees it.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The wall clock.
    pub(crate) wall: SystemTime,
    /// CLOCK_BOOTTIME, which continues while the machine sleeps.
    pub(crate) booted: Duration,
    /// All jitter.
    pub(crate) random: Random,
}

/// Ends the simulation of the current thread.
#[derive(Debug)]
pub(crate) struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        MACHINE.set(None);
    }
}

/// Simulates that machine on the current thread.
pub(crate) fn begin(machine: Machine) -> Guard {
    MACHINE.set(Some(machine));
    Guard(())
}

/// Changes the simulated machine.
pub(crate) fn change<T>(change: impl FnOnce(&mut Machine) -> T) -> Option<T> {
    MACHINE.with_borrow_mut(|machine| machine.as_mut().map(change))
}

/// Numbers that are a function of a seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in `of` times.
    pub(crate) fn once_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// From 0 up to 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from((self.next() >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
    }

    pub(crate) fn millis(&mut self, longest: u64) -> Duration {
        Duration::from_millis(self.below(longest + 1))
    }
}
