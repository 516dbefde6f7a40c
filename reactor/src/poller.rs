//! What a reactor polls: bounded work that owns its data and says whether it did any.

use std::os::fd::RawFd;

use crate::time::Time;

/// What one call to a poller achieved; the reactor sums this into busy and idle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to do.
    Idle,
    /// At least one item was worked on.
    Busy,
}

impl Progress {
    /// Busy when either is.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Busy { self } else { other }
    }
}

/// Bounded, non-blocking, owns its data: a poller never waits and never takes a lock.
pub trait Poller {
    /// The name that the stall watchdog and the counters use.
    fn name(&self) -> &'static str;

    /// Works on at most `budget` items and returns.
    fn poll(&mut self, now: Time, budget: u32) -> Progress;

    /// The next instant at which this poller needs the core although nothing arrives; the reactor
    /// does not sleep past it. [`Time::NEVER`] when there is none.
    fn deadline(&self) -> Time {
        Time::NEVER
    }

    /// False while the poller still has work that no wake-up announces (then the core spins).
    fn may_sleep(&self) -> bool {
        true
    }

    /// The core is about to sleep: what shall wake it is armed now. The poller is polled once more after this, so nothing that
    /// came before is missed.
    fn before_sleep(&mut self) {}

    /// The core is awake again, or did not go to sleep after all.
    fn after_sleep(&mut self) {}

    /// Appends the events (eventfds) that wake the core while it sleeps. They stay open as long as the poller lives; the core
    /// empties them.
    fn wake_events(&self, out: &mut Vec<RawFd>) {
        let _ = out;
    }
}
