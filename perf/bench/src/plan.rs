//! What is asked for.

use std::time::Duration;

use crate::error::BenchError;
use crate::limits::{
    BUFFER_BYTES_MAX, DEPTH_MAX, LOGICAL_BLOCK_BYTES_MIN, QUEUES_MAX, RATE_MAX, REQUEST_BYTES_MAX,
    RUNTIME_S_MAX,
};
use crate::target::Target;

/// In which order places are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other, and again from the start.
    Sequential,
    /// Every place equally likely.
    Random,
}

/// When requests are started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// One for each that ends: a steady depth. The target sets the pace, so its pauses hide requests that would have waited.
    Closed,
    /// So many per second at equal distances, whatever the target does; latency counts from the intended start.
    Constant(f64),
    /// So many per second on average, at the distances of independent users (a Poisson process).
    Poisson(f64),
}

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where.
    pub target: Target,
    /// In which order.
    pub order: Order,
    /// How many of 100 requests read; the others write.
    pub read_percent: u8,
    /// Bytes of one request.
    pub request_bytes: u32,
    /// Requests in flight per queue; at most so many with an open loop.
    pub depth: u32,
    /// Queues (NVMe) or sessions of one connection (iSCSI).
    pub queues: u16,
    /// When requests are started.
    pub pacing: Pacing,
    /// Load that is not counted, before.
    pub warm_up: Duration,
    /// Load that is counted.
    pub runtime: Duration,
    /// Ends the run earlier, after so many bytes; then nothing warms up.
    pub bytes_max: Option<u64>,
    /// The processor of the generator.
    pub processor: Option<usize>,
    /// Host NQN or initiator name; one of its own when absent.
    pub client_name: Option<String>,
    /// Header digests.
    pub header_digest: bool,
    /// Data digests.
    pub data_digest: bool,
    /// Written blocks are stamped, read blocks are checked.
    pub verify: bool,
    /// Data on the target may be destroyed.
    pub overwrite_data: bool,
    /// Start of the sequence of places and kinds.
    pub seed: u64,
}

impl Plan {
    /// Random reads of 4 KiB at depth 1 for ten seconds.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            order: Order::Random,
            read_percent: 100,
            request_bytes: 4096,
            depth: 1,
            queues: 1,
            pacing: Pacing::Closed,
            warm_up: Duration::from_secs(1),
            runtime: Duration::from_secs(10),
            bytes_max: None,
            processor: None,
            client_name: None,
            header_digest: false,
            data_digest: false,
            verify: false,
            overwrite_data: false,
            seed: 0,
        }
    }

    /// True when some requests read.
    pub fn reads(&self) -> bool {
        self.read_percent > 0
    }

    /// True when some requests write.
    pub fn writes(&self) -> bool {
        self.read_percent < 100
    }

    /// Requests in flight over all queues.
    pub fn slots(&self) -> u32 {
        self.depth * u32::from(self.queues)
    }

    /// Checks every bound that is documented.
    pub fn check(&self) -> Result<(), BenchError> {
        let bound = |holds: bool, option: &'static str, bounds: &'static str| {
            if holds { Ok(()) } else { Err(BenchError::Option { option, bounds }) }
        };
        bound(self.read_percent <= 100, "--read-percent", "from 0 to 100")?;
        let is_whole = self.request_bytes.is_multiple_of(LOGICAL_BLOCK_BYTES_MIN);
        let fits = (LOGICAL_BLOCK_BYTES_MIN..=REQUEST_BYTES_MAX).contains(&self.request_bytes);
        bound(is_whole && fits, "--block-size", "from 512 bytes to 1 MiB, a multiple of 512 bytes")?;
        bound((1..=DEPTH_MAX).contains(&self.depth), "--depth", "from 1 to 1023")?;
        bound((1..=QUEUES_MAX).contains(&self.queues), "--queues", "from 1 to 16")?;
        let buffers = 1 + u64::from(self.reads() && self.writes());
        let memory = u64::from(self.slots()) * u64::from(self.request_bytes) * buffers;
        bound(
            memory <= BUFFER_BYTES_MAX,
            "--depth",
            "depth, queues and block size together need more than 8 GiB of buffers",
        )?;
        if let Pacing::Constant(rate) | Pacing::Poisson(rate) = self.pacing {
            bound(
                (0.001..=RATE_MAX).contains(&rate),
                "--rate",
                "from 0.001 to 100,000,000 requests a second",
            )?;
        }
        let total = self.warm_up.saturating_add(self.runtime);
        bound(
            !self.runtime.is_zero() && total <= Duration::from_secs(RUNTIME_S_MAX),
            "--runtime",
            "more than nothing, and at most a week with the warm-up",
        )?;
        let one = u64::from(self.request_bytes);
        bound(self.bytes_max.is_none_or(|bytes| bytes >= one), "--bytes", "at least one request")?;
        let is_iscsi = matches!(self.target, Target::Iscsi { .. });
        if is_iscsi && (self.header_digest || self.data_digest) {
            return Err(BenchError::Contradiction {
                first: "--header-digest or --data-digest",
                second: "an iSCSI target",
                reason: "the generator's iSCSI client has no digests",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_checked() {
        let good = Plan::new("nvme-tcp://h/nqn.a".parse().expect("a target"));
        good.check().expect("the defaults are in their bounds");
        let wrong: [fn(&mut Plan); 11] = [
            |plan| plan.read_percent = 101,
            |plan| plan.request_bytes = 0,
            |plan| plan.request_bytes = 513,
            |plan| plan.request_bytes = (1 << 20) + 512,
            |plan| plan.depth = 0,
            |plan| plan.depth = 1024,
            |plan| plan.queues = 17,
            |plan| (plan.depth, plan.queues, plan.request_bytes) = (1023, 16, 1 << 20),
            |plan| plan.pacing = Pacing::Constant(0.0),
            |plan| plan.runtime = Duration::ZERO,
            |plan| plan.bytes_max = Some(100),
        ];
        for change in wrong {
            let mut plan = good.clone();
            change(&mut plan);
            assert!(plan.check().expect_err("out of bounds").is_usage());
        }
        let target = "iscsi://h/iqn.a/0".parse().expect("a target");
        let digests = Plan { target, header_digest: true, ..good };
        assert!(digests.check().is_err());
    }
}
