//! The machine's monotonic clock.

use nix::time::{ClockId, clock_gettime};

use crate::time::{Clock, Time};

/// `CLOCK_MONOTONIC`. One reading costs about 20 ns (no system call), so reactors read it once
/// per turn and pass it on.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    fn now(&self) -> Time {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has a monotonic clock");
        let seconds = u64::try_from(now.tv_sec()).expect("the clock counts from boot");
        let nanoseconds = u64::try_from(now.tv_nsec()).expect("below one second");
        Time::from_ns(seconds * 1_000_000_000 + nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let mut last = MonotonicClock.now();
        for _ in 0..1000 {
            let now = MonotonicClock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
