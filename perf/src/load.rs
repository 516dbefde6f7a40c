//! A steady load of equal commands at a fixed depth, and the latency of each of them.

use std::io::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

use crate::initiator::{Command, Initiator};

/// Latencies kept; later ones are counted but not kept.
const SAMPLES_MAX: usize = 16 << 20;
/// Commands under way at most.
pub const DEPTH_MAX: u32 = 512;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Writes instead of reads.
    pub write: bool,
    /// At random places instead of one after the other.
    pub random: bool,
    /// Bytes of one command; a multiple of the block.
    pub bytes: u32,
    /// Commands under way at any time, 1 to [`DEPTH_MAX`].
    pub depth: u32,
    /// With depth 1: silence before each command, so that the target falls asleep; zero for none.
    pub pause: Duration,
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After a time unmeasured and then a time measured.
    Elapsed {
        /// Not counted.
        warm_up: Duration,
        /// Counted.
        measured: Duration,
    },
    /// When every place of the unit was visited once, in order: what a read finds later was written.
    Covered,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Commands that ended GOOD in the measured time.
    pub completed: u64,
    /// Commands that ended otherwise.
    pub failed: u64,
    /// The measured time.
    pub elapsed: Duration,
    /// Latencies in nanoseconds from queueing to answer, ascending.
    pub latencies_ns: Vec<u32>,
}

/// Where the next command goes.
#[derive(Debug)]
struct Places {
    random: bool,
    places: u64,
    state: u64,
}

impl Places {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(if self.random { 0x9e37_79b9_7f4a_7c15 } else { 1 });
        if !self.random {
            return self.state % self.places;
        }
        // SplitMix64's finaliser: every place equally likely, the same sequence in every run.
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % self.places
    }
}

/// Loads the target until it is time to stop.
pub fn run(initiator: &mut Initiator, load: Load, until: Until) -> Result<Outcome> {
    let (blocks, block_bytes) = initiator.capacity()?;
    let length_blocks = load.bytes.checked_div(block_bytes).unwrap_or(0);
    let places = blocks.checked_div(u64::from(length_blocks)).unwrap_or(0);
    if places == 0 || length_blocks * block_bytes != load.bytes || !(1..=DEPTH_MAX).contains(&load.depth) {
        return Err(Error::from(ErrorKind::InvalidInput));
    }
    let (warm_up, measured, mut left) = match until {
        Until::Elapsed { warm_up, measured } => (warm_up, measured, u64::MAX),
        Until::Covered => (Duration::ZERO, Duration::MAX, places),
    };
    let mut places = Places { random: load.random, places, state: 0 };
    let mut outcome = Outcome::default();
    let mut queued_at = vec![Instant::now(); load.depth as usize];
    let mut free: Vec<u32> = (0..load.depth).collect();
    let mut answered = Vec::with_capacity(load.depth as usize);
    let warm_until = Instant::now() + warm_up;
    let mut started = warm_up.is_zero().then(Instant::now);
    loop {
        if !load.pause.is_zero() {
            std::thread::sleep(load.pause);
        }
        let now = Instant::now();
        while left > 0
            && let Some(tag) = free.pop_if(|_| initiator.may_submit())
        {
            queued_at[tag as usize] = now;
            let lba = places.next() * u64::from(length_blocks);
            initiator.submit(tag, &command(load, lba, length_blocks));
            left -= 1;
        }
        while !initiator.turn(&mut answered)? || answered.is_empty() {
            std::hint::spin_loop();
        }
        let now = Instant::now();
        for answer in answered.drain(..) {
            let Some(queued_at) = queued_at.get(answer.tag as usize) else {
                return Err(Error::from(ErrorKind::InvalidData));
            };
            free.push(answer.tag);
            if started.is_some() {
                outcome.note(answer.status, now.duration_since(*queued_at));
            }
        }
        match started {
            None if now >= warm_until => started = Some(now),
            Some(start)
                if now.duration_since(start) >= measured
                    || (left == 0 && free.len() == load.depth as usize) =>
            {
                outcome.elapsed = now.duration_since(start);
                outcome.latencies_ns.sort_unstable();
                return Ok(outcome);
            }
            _ => {}
        }
    }
}

fn command(load: Load, lba: u64, length_blocks: u32) -> Command {
    let mut cdb = [0; 16];
    cdb[0] = if load.write { 0x8a } else { 0x88 };
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&length_blocks.to_be_bytes());
    let (write_bytes, read_bytes) = if load.write { (load.bytes, 0) } else { (0, load.bytes) };
    Command { cdb, write_bytes, read_bytes }
}

impl Outcome {
    fn note(&mut self, status: u8, latency: Duration) {
        if status != 0 {
            self.failed += 1;
            return;
        }
        self.completed += 1;
        if self.latencies_ns.len() < SAMPLES_MAX {
            self.latencies_ns.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
        }
    }

    /// Good commands a second.
    pub fn rate(&self) -> f64 {
        self.completed as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The latency that a share `quantile` (0 to 1) does not exceed, in microseconds; `None` without samples.
    pub fn latency_us(&self, quantile: f64) -> Option<f64> {
        let last = self.latencies_ns.len().checked_sub(1)?;
        let index = (last as f64 * quantile.clamp(0.0, 1.0)).round() as usize;
        Some(f64::from(self.latencies_ns[index]) / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const BRIEFLY: Until = Until::Elapsed { warm_up: Duration::ZERO, measured: Duration::from_millis(1) };
    const READ: Load = Load { write: false, random: true, bytes: 4096, depth: 1, pause: Duration::ZERO };

    fn load(load: Load, until: Until) -> Result<Outcome> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server =
            std::thread::spawn(move || crate::canned::serve(listener.accept().expect("one client").0));
        let mut initiator = Initiator::login(address, "iqn.2026-01.io.vega:load", "any", 0, 0)?;
        let outcome = run(&mut initiator, load, until);
        drop(initiator);
        server.join().expect("no panic").expect("the client closed in order");
        outcome
    }

    #[test]
    fn reads_and_writes_run_against_the_emptiest_target() {
        for write in [false, true] {
            for (bytes, depth) in [(4096, 1), (4096, 32), (131_072, 8)] {
                let outcome = load(Load { write, bytes, depth, ..READ }, BRIEFLY).expect("it runs");
                assert!(outcome.completed > 0 && outcome.failed == 0);
                assert_eq!(outcome.completed as usize, outcome.latencies_ns.len());
                assert!(outcome.latency_us(0.5) <= outcome.latency_us(0.99));
            }
        }
    }

    #[test]
    fn sizes_that_are_no_blocks_are_refused() {
        for (bytes, depth) in [(0, 1), (1000, 1), (4096, 0), (4096, DEPTH_MAX + 1)] {
            assert!(load(Load { bytes, depth, ..READ }, BRIEFLY).is_err());
        }
    }

    #[test]
    fn covering_visits_every_place_once() {
        let fill = Load { write: true, random: false, bytes: 262_144, depth: 16, pause: Duration::ZERO };
        assert_eq!(load(fill, Until::Covered).expect("it runs").completed, (1 << 30) / 262_144);
        let mut places = Places { random: false, places: 5, state: 0 };
        let mut visited: Vec<u64> = (0..5).map(|_| places.next()).collect();
        visited.sort_unstable();
        assert_eq!(visited, [0, 1, 2, 3, 4]);
    }
}
