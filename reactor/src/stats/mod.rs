//! Counters and latency histograms with one writer and any number of readers, without a lock.
//!
//! The writer is the core that owns the value: it loads, adds and stores, all relaxed, which costs
//! what a plain increment costs. A reader sees each number whole and never older than a moment; it
//! does not see several numbers at one instant. Two writers would lose counts, nothing worse.

mod histogram;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub use histogram::{BUCKETS, Histogram, HistogramSnapshot};

use crate::memory::MemoryReport;

/// A number that only grows. One writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. One writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the number.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Takes `n` away; never below zero.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.set(self.get().saturating_sub(n));
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted for one kind of operation.
#[derive(Debug, Default)]
pub struct OpStats {
    /// Operations that ended, well or not.
    pub operations: Counter,
    /// Payload bytes of those that ended well.
    pub bytes: Counter,
    /// Operations that ended in an error.
    pub errors: Counter,
    /// From submission to completion, of all that ended.
    pub latency: Histogram,
}

impl OpStats {
    /// Records one operation that ended well.
    #[inline]
    pub fn record(&self, bytes: u64, latency_ns: u64) {
        self.operations.add(1);
        self.bytes.add(bytes);
        self.latency.record(latency_ns);
    }

    /// Records one operation that failed.
    #[inline]
    pub fn record_error(&self, latency_ns: u64) {
        self.operations.add(1);
        self.errors.add(1);
        self.latency.record(latency_ns);
    }
}

/// The operations of one object (a volume, say), written by its core and shared through an `Arc`.
#[derive(Debug, Default)]
pub struct StatsSet {
    /// The object's name.
    pub name: String,
    /// By name of the operation.
    pub ops: Vec<(&'static str, OpStats)>,
}

impl StatsSet {
    /// A set with one entry per name in `ops`.
    pub fn new(name: impl Into<String>, ops: &[&'static str]) -> Self {
        Self { name: name.into(), ops: ops.iter().map(|&op| (op, OpStats::default())).collect() }
    }

    /// The entry called `op`.
    pub fn op(&self, op: &str) -> Option<&OpStats> {
        self.ops.iter().find(|(name, _)| *name == op).map(|(_, stats)| stats)
    }
}

/// How often one poller had work.
#[derive(Debug)]
pub struct PollerStats {
    /// The poller's name.
    pub name: &'static str,
    /// Turns in which it had work.
    pub busy_turns: Counter,
    /// Turns in which it had none.
    pub idle_turns: Counter,
    /// Turns in which it held the core longer than allowed.
    pub stalls: Counter,
    /// The longest of those, in nanoseconds.
    pub longest_stall_ns: Gauge,
}

/// What one core did with its time.
#[derive(Debug, Default)]
pub struct CoreStats {
    /// The core's name.
    pub name: String,
    /// Nanoseconds in turns with work.
    pub busy_ns: Counter,
    /// Nanoseconds in turns without work, and asleep.
    pub idle_ns: Counter,
    /// Of the idle nanoseconds, those asleep in the kernel.
    pub asleep_ns: Counter,
    /// Times the core went to sleep.
    pub sleeps: Counter,
    /// Turns.
    pub turns: Counter,
    /// Turns of a poller that held the core longer than allowed.
    pub stalls: Counter,
    /// The longest of them, in nanoseconds.
    pub longest_stall_ns: Gauge,
    /// Connected streams.
    pub connections: Gauge,
    /// File operations in flight.
    pub file_operations: Gauge,
    /// Messages that came from other threads.
    pub messages: Counter,
    /// Times `accept` failed for want of descriptors or memory.
    pub accept_failures: Counter,
    /// Peers that tried to prove who they are and did not.
    pub authentication_failures: Counter,
    /// Peers that were not let try, because too many before had failed.
    pub authentication_refusals: Counter,
    /// All buffer memory.
    pub buffer_total_bytes: Gauge,
    /// Buffer memory that is free, as of the last time the core looked: a turn and a millisecond ago at most.
    pub buffer_available_bytes: Gauge,
    pollers: OnceLock<Vec<PollerStats>>,
    memory: OnceLock<MemoryReport>,
}

impl CoreStats {
    /// Counters at zero for the core called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// One entry per poller, in the order in which they are polled; empty before the core runs.
    pub fn pollers(&self) -> &[PollerStats] {
        self.pollers.get().map_or(&[], Vec::as_slice)
    }

    /// The poller with the longest stall so far: its name and how long it held the core.
    pub fn worst_poller(&self) -> Option<(&'static str, u64)> {
        let worst = self.pollers().iter().max_by_key(|poller| poller.longest_stall_ns.get())?;
        let longest_ns = worst.longest_stall_ns.get();
        (longest_ns > 0).then_some((worst.name, longest_ns))
    }

    /// What memory the core's buffers are made of; `None` before the core runs.
    pub fn memory(&self) -> Option<MemoryReport> {
        self.memory.get().copied()
    }

    pub(crate) fn set_memory(&self, report: MemoryReport) {
        self.memory.set(report).expect("a core takes its memory once");
    }

    pub(crate) fn set_pollers(&self, names: impl Iterator<Item = &'static str>) {
        let stats = |name| PollerStats {
            name,
            busy_turns: Counter::default(),
            idle_turns: Counter::default(),
            stalls: Counter::default(),
            longest_stall_ns: Gauge::default(),
        };
        self.pollers.set(names.map(stats).collect()).expect("a core is given its pollers once");
    }
}

const _: () = {
    const fn readable_by_any_thread<T: Send + Sync>() {}
    readable_by_any_thread::<StatsSet>();
    readable_by_any_thread::<CoreStats>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_bytes_and_errors_are_counted_apart() {
        let set = StatsSet::new("v", &["read", "write"]);
        let read = set.op("read").expect("named above");
        read.record(4096, 10_000);
        read.record_error(20_000);
        assert_eq!((read.operations.get(), read.bytes.get(), read.errors.get()), (2, 4096, 1));
        assert_eq!(read.latency.snapshot().count(), 2);
        assert!(set.op("flush").is_none());
    }

    #[test]
    fn the_worst_poller_is_named() {
        let stats = CoreStats::new("core-0");
        assert_eq!(stats.worst_poller(), None);
        stats.set_pollers(["a", "b"].into_iter());
        assert_eq!(stats.worst_poller(), None);
        stats.pollers()[1].longest_stall_ns.set(7);
        assert_eq!(stats.worst_poller(), Some(("b", 7)));
    }

    #[test]
    fn a_gauge_does_not_wrap_below_zero() {
        let gauge = Gauge::default();
        gauge.add(2);
        gauge.sub(3);
        assert_eq!(gauge.get(), 0);
    }
}
