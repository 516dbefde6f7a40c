//! What a core does when nothing is to be done: spin for a while, then sleep; or spin for ever.

use std::time::Duration;

use crate::limits::{SPIN_FACTOR_FILES, SPIN_US_DEFAULT};
use crate::time::Time;

/// How a core waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Spins for `spin_us` after the last work, then sleeps until something happens.
    Adaptive {
        /// Spinning costs the core; sleeping costs the next I/O about 10 to 50 us. With file operations in flight it is
        /// `SPIN_FACTOR_FILES` times as long.
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

    /// There was none at `now`: true when the core should sleep. `file_operations` are those in flight.
    #[inline]
    pub fn on_idle(&self, now: Time, file_operations: usize) -> bool {
        match self.policy {
            IdlePolicy::Adaptive { spin_us } => {
                let factor = if file_operations == 0 { 1 } else { SPIN_FACTOR_FILES };
                now.since(self.last_busy) >= Duration::from_micros(spin_us.saturating_mul(factor))
            }
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
        assert!(!adaptive.on_idle(at(99), 0));
        assert!(adaptive.on_idle(at(100), 0));
        adaptive.on_busy(at(150));
        assert!(!adaptive.on_idle(at(249), 0));
        assert!(adaptive.on_idle(at(250), 0));
        assert!(!IdleState::new(IdlePolicy::Poll, at(0)).on_idle(Time::NEVER, 0));
    }

    #[test]
    fn what_a_disk_has_still_to_answer_is_awaited_awake() {
        let at = |us: u64| Time::from_ns(us * 1000);
        let state = IdleState::new(IdlePolicy::Adaptive { spin_us: 100 }, at(0));
        let end = 100 * SPIN_FACTOR_FILES;
        assert!(!state.on_idle(at(end - 1), 1));
        assert!(state.on_idle(at(end), 1), "not for ever: the disk may be a slow one");
        let longest = IdleState::new(IdlePolicy::Adaptive { spin_us: u64::MAX }, at(0));
        assert!(!longest.on_idle(at(end), 1));
    }
}
