//! When a lost path is tried again: at once, then after growing delays, and from some time on never again.

use std::time::Duration;

use reactor::time::Time;

use crate::limits::{RECONNECT_DELAY_MS_FIRST, RECONNECT_DELAY_MS_MAX};

/// The attempts of one path.
#[derive(Clone, Copy, Debug)]
pub struct Ladder {
    controller_loss: Duration,
    /// When the association was lost (or first wanted), and how many attempts have failed since.
    lost_at: Time,
    failures: u32,
}

impl Ladder {
    /// A path that is wanted from now on.
    pub fn new(controller_loss: Duration, now: Time) -> Self {
        Self { controller_loss, lost_at: now, failures: 0 }
    }

    /// The association was live and is lost: when to try again.
    pub fn on_lost(&mut self, now: Time) -> Time {
        (self.lost_at, self.failures) = (now, 0);
        now
    }

    /// An attempt failed: when to try again, or `None` when the path is given up.
    pub fn on_failure(&mut self, now: Time) -> Option<Time> {
        if now.since(self.lost_at) >= self.controller_loss {
            return None;
        }
        let delay_ms = RECONNECT_DELAY_MS_FIRST << self.failures.min(16);
        self.failures += 1;
        Some(now.after(Duration::from_millis(delay_ms.min(RECONNECT_DELAY_MS_MAX))))
    }

    /// Attempts that failed since the loss.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_cap_and_end() {
        let mut now = Time::from_ns(1_000_000_000);
        let mut ladder = Ladder::new(Duration::from_secs(60), now);
        assert_eq!(ladder.on_lost(now), now, "the first attempt is made at once");
        let mut delays_ms = Vec::new();
        while let Some(next) = ladder.on_failure(now) {
            delays_ms.push(next.since(now).as_millis());
            now = next;
        }
        assert_eq!(delays_ms[..8], [100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
        assert!(delays_ms[7..].iter().all(|delay| *delay == 10_000));
        assert!(now.since(Time::from_ns(1_000_000_000)) >= Duration::from_secs(60));
        // A success in between starts again from the bottom.
        ladder.on_lost(now);
        assert_eq!(ladder.on_failure(now), Some(now.after(Duration::from_millis(100))));
    }
}
