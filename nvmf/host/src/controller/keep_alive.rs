//! When Keep Alive is sent, and how long a lost controller may go on (Base 3.9).

use std::time::Duration;

use reactor::time::Time;

/// The timer of one association.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    timeout: Duration,
    traffic_based: bool,
    next_at: Time,
}

impl KeepAlive {
    /// A timer that starts now.
    pub fn new(timeout: Duration, now: Time) -> Self {
        Self { timeout, traffic_based: false, next_at: now.after(timeout / 2) }
    }

    /// Any command counts as keep alive at this controller.
    pub fn set_traffic_based(&mut self) {
        self.traffic_based = true;
    }

    /// When [`KeepAlive::is_due`] is to be asked.
    pub fn next_at(&self) -> Time {
        self.next_at
    }

    /// True when Keep Alive is to be sent now. `heard` says that the controller answered something since the last call.
    pub fn is_due(&mut self, now: Time, heard: bool) -> bool {
        if now < self.next_at {
            return false;
        }
        self.next_at = now.after(self.timeout / 2);
        // An answer proves that the controller took a command of ours, in the interval that has just ended.
        !(self.traffic_based && heard)
    }

    /// After we fell silent: the longest time until the controller notices and begins to quiesce.
    pub fn expiry(&self) -> Duration {
        if self.traffic_based { self.timeout * 2 } else { self.timeout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_replaces_keep_alive_where_it_counts() {
        let (second, start) = (Duration::from_secs(1), Time::from_ns(5));
        let mut timer = KeepAlive::new(second, start);
        assert!(!timer.is_due(start, true));
        let mut now = timer.next_at();
        assert_eq!(now, start.after(second / 2));
        assert!(timer.is_due(now, true), "traffic does not count here");
        assert_eq!(timer.expiry(), second);
        timer.set_traffic_based();
        now = timer.next_at();
        assert!(!timer.is_due(now, true));
        now = timer.next_at();
        assert!(timer.is_due(now, false));
        assert_eq!(timer.expiry(), 2 * second);
    }
}
