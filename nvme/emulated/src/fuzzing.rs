//! Body of the fuzz target `controller`: a host that may do anything with registers, queues, lists and memory. Whatever it
//! does, the controller does not panic, does not touch memory that was not mapped and lent, and does bounded work.
//!
//! Not part of the product: compiled for tests, for the fuzz crate and under `cfg(fuzzing)` only.

mod host;

use host::Host;

use crate::controller::Counters;

/// A fuzzer's bytes as a supply of choices. When they are used up, everything is zero.
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
}

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn u8(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().map_or((0, self.bytes), |(first, rest)| (*first, rest));
        self.bytes = rest;
        first
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }
}

/// Acts of one run: bounds the time that an input takes.
const ACTS_MAX: usize = 400;

/// What holds for any bytes.
pub fn controller(data: &[u8]) {
    run(data);
}

/// The same; what was counted on the way.
fn run(data: &[u8]) -> Counters {
    let mut input = Input { bytes: data };
    let mut host = Host::new(input.u8());
    for _ in 0..ACTS_MAX {
        if input.is_empty() {
            break;
        }
        host.act(&mut input);
        host.check();
    }
    host.finish()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::Counters;

    fn seeds() -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/controller");
        let entries = std::fs::read_dir(&folder).expect("the corpus is part of the tree");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "the corpus is empty");
        paths.iter().map(|path| std::fs::read(path).expect("a readable seed")).collect()
    }

    #[test]
    fn corpus() {
        let all: Vec<_> = seeds().iter().map(|seed| super::run(seed)).collect();
        let sum = |count: fn(&Counters) -> u64| all.iter().map(count).sum::<u64>();
        // A corpus that reaches nothing would hold whatever the controller did.
        assert!(sum(|counters| counters.commands) > 80, "{all:?}");
        assert!(sum(|counters| counters.completions) > 70, "{all:?}");
        assert!(sum(|counters| counters.faults) >= 4, "{all:?}");
        assert!(sum(|counters| counters.doorbell_errors) > 0 && sum(|counters| counters.violations) > 0);
        assert!(sum(|counters| counters.function_resets) > 1, "{all:?}");
    }

    /// Some thousand inputs without a fuzzer, so that the body itself is known to hold.
    #[test]
    fn seeds_with_bytes_changed_and_cut_at_every_point() {
        for mut seed in seeds() {
            for at in 0..seed.len().min(80) {
                super::controller(&seed[..at]);
                let old = seed[at];
                for new in [0, 0xff, old ^ 1, old ^ 0x40] {
                    seed[at] = new;
                    super::controller(&seed);
                }
                seed[at] = old;
            }
        }
    }

    /// Inputs of a small generator: long, and unlike the seeds.
    #[test]
    fn noise() {
        let mut random = reactor::sim::SimRandom::new(11);
        for round in 0..600_usize {
            let mut bytes = vec![0; 16 + round * 3];
            reactor::random::Random::fill(&mut random, &mut bytes);
            super::controller(&bytes);
        }
    }
}
