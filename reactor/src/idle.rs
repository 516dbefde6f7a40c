//! What a core does when nothing is to be done: spin for a while, then sleep; or spin for ever.

use std::time::Duration;

use crate::limits::SPIN_US_DEFAULT;
use crate::time::Time;

/// How a core waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Spins for `spin_us` after the last work, then sleeps until something happens.
    Adaptive {
        /// Spinning costs the core; sleeping costs the next I/O about 10 to 50 us.
        spin_us: u64,
    },
    /// Spins always: for cores that do nothing else.
    Poll,
}

impl Default for IdlePolicy {
    fn default() -> Self {
        Self::Adaptive { spin_us: SPIN_US_DEFAULT }
    }
}

/// Decides, from when there was work last, whether it is time to sleep.
#[derive(Clone, Copy, Debug)]
pub struct IdleState {
    policy: IdlePolicy,
    last_busy: Time,
}

impl IdleState {
    /// At `now` the core starts, awake.
    pub const fn new(policy: IdlePolicy, now: Time) -> Self {
        Self { policy, last_busy: now }
    }

    /// There was work at `now`.
    #[inline]
    pub fn on_busy(&mut self, now: Time) {
        self.last_busy = now;
    }

    /// There was none at `now`: true when the core should sleep.
    #[inline]
    pub fn on_idle(&self, now: Time) -> bool {
        match self.policy {
            IdlePolicy::Adaptive { spin_us } => now.since(self.last_busy) >= Duration::from_micros(spin_us),
            IdlePolicy::Poll => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_sleeps_after_the_spin_and_poll_never() {
        let at = |us: u64| Time::from_ns(us * 1000);
        let mut adaptive = IdleState::new(IdlePolicy::Adaptive { spin_us: 100 }, at(0));
        assert!(!adaptive.on_idle(at(99)));
        assert!(adaptive.on_idle(at(100)));
        adaptive.on_busy(at(150));
        assert!(!adaptive.on_idle(at(249)));
        assert!(adaptive.on_idle(at(250)));
        assert!(!IdleState::new(IdlePolicy::Poll, at(0)).on_idle(Time::NEVER));
    }
}
