//! What is counted while a load runs.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::driver::{ControllerFacts, Doorbells, Failure, Geometry};
use crate::ledger::{Findings, Mismatch};
use crate::limits::LATENCY_NS_MAX;

/// Requests of one kind.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Requests that succeeded within the measured time.
    pub completed: u64,
    /// Requests that failed, whenever.
    pub failed: u64,
    /// Latency in nanoseconds. With an open loop: of every request that was meant to start within the measured time.
    pub latency_ns: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order");
        Self { completed: 0, failed: 0, latency_ns }
    }
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        self.latency_ns.add(&other.latency_ns).expect("all have the same bounds");
    }

    /// Counts a latency.
    #[inline]
    pub fn record(&mut self, latency: Duration) {
        self.latency_ns.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// What verification has shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verified {
    /// Sums over all reads.
    pub findings: Findings,
}

impl Verified {
    /// Adds the findings of one read.
    pub fn add(&mut self, more: Findings) {
        let sum = &mut self.findings;
        sum.checked_blocks += more.checked_blocks;
        sum.unknown_blocks += more.unknown_blocks;
        sum.wrong_blocks += more.wrong_blocks;
        sum.first = sum.first.or(more.first);
    }

    /// The first wrong block.
    pub fn first(&self) -> Option<(u64, Mismatch)> {
        self.findings.first
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the target is.
    pub geometry: Geometry,
    /// The measured time.
    pub elapsed: Duration,
    /// Reads.
    pub reads: Tally,
    /// Writes.
    pub writes: Tally,
    /// Requests of an open loop that were due and found no free slot until the end. They count as reads or writes with the time
    /// that they had waited by then.
    pub unstarted: u64,
    /// With verification.
    pub verified: Option<Verified>,
    /// The first failure and its block.
    pub first_failure: Option<(u64, Failure)>,
    /// It was ended before its time.
    pub interrupted: bool,
    /// The controller, where this process drives it itself.
    pub controller: Option<ControllerFacts>,
    /// What that controller was told in the measured time.
    pub rung: Doorbells,
}

impl Outcome {
    /// Adds what another generator of the same run has seen.
    pub fn add(&mut self, other: &Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.reads.add(&other.reads);
        self.writes.add(&other.writes);
        self.unstarted += other.unstarted;
        if let (Some(mine), Some(others)) = (&mut self.verified, &other.verified) {
            mine.add(others.findings);
        }
        self.first_failure = self.first_failure.or(other.first_failure);
        self.interrupted |= other.interrupted;
        self.rung = self.rung.and(other.rung);
    }
}
