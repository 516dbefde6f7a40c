//! The stall watchdog: which poller held the core longer than allowed, and for how long.
//!
//! It counts and never prints: whoever reads the counters decides what is worth a line.

use std::time::Duration;

use crate::stats::CoreStats;

/// Compares each turn of each poller with a limit.
#[derive(Clone, Copy, Debug)]
pub struct StallWatchdog {
    limit: Duration,
}

impl StallWatchdog {
    /// A watchdog that counts turns longer than `limit`.
    pub const fn new(limit: Duration) -> Self {
        Self { limit }
    }

    /// Poller number `poller` held the core for `took`.
    #[inline]
    pub fn check(&self, stats: &CoreStats, poller: usize, took: Duration) {
        if took > self.limit {
            self.count(stats, poller, took);
        }
    }

    #[cold]
    fn count(&self, stats: &CoreStats, poller: usize, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let poller = &stats.pollers()[poller];
        poller.stalls.add(1);
        poller.longest_stall_ns.set(poller.longest_stall_ns.get().max(took_ns));
        stats.stalls.add(1);
        stats.longest_stall_ns.set(stats.longest_stall_ns.get().max(took_ns));
    }
}
