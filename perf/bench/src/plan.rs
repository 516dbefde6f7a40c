//! What is asked for.

use std::time::Duration;

use crate::error::BenchError;
use crate::limits::{
    BUFFER_BYTES_MAX, DEPTH_MAX, LOGICAL_BLOCK_BYTES_MIN, PROCESSORS_MAX, QUEUES_MAX, RATE_MAX,
    REQUEST_BYTES_MAX, RUNTIME_S_MAX,
};
use crate::target::Target;
use crate::words;

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

impl Pacing {
    /// The pace of one of so many generators.
    #[must_use]
    pub fn share(self, generators: u32) -> Self {
        let part = |rate| rate / f64::from(generators);
        match self {
            Self::Closed => Self::Closed,
            Self::Constant(rate) => Self::Constant(part(rate)),
            Self::Poisson(rate) => Self::Poisson(part(rate)),
        }
    }
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
    /// The processors that make the load, each with queues of its own; none is one that the system chooses.
    pub processors: Vec<usize>,
    /// Spinning without an answer before a core sleeps until the next one, in microseconds; `None` for always.
    pub spin_us: Option<u64>,
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
    /// The serial number of a controller of this machine, typed: it may be taken from whoever uses it, with all that is on it.
    pub confirm_serial: Option<String>,
    /// A controller of this machine may be driven without an IOMMU.
    pub no_iommu: bool,
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
            processors: Vec::new(),
            spin_us: None,
            client_name: None,
            header_digest: false,
            data_digest: false,
            verify: false,
            overwrite_data: false,
            confirm_serial: None,
            no_iommu: false,
            seed: 0,
        }
    }

    /// The same for a target as a person writes it: a URL, or words, which can say more than where it is.
    pub fn for_text(text: &str) -> Result<Self, BenchError> {
        if words::is_words(text) { words::read(text) } else { Ok(Self::new(text.parse()?)) }
    }

    /// True when some requests read.
    pub fn reads(&self) -> bool {
        self.read_percent > 0
    }

    /// True when some requests write.
    pub fn writes(&self) -> bool {
        self.read_percent < 100
    }

    /// Requests in flight over all queues of one generator.
    pub fn slots(&self) -> u32 {
        self.depth * u32::from(self.queues)
    }

    /// How many generators there are.
    pub fn generators(&self) -> u32 {
        self.processors.len().max(1) as u32
    }

    /// Bytes of all buffers of one generator.
    pub fn buffer_bytes(&self) -> u64 {
        // A load that writes looks at what it would overwrite.
        let samples = self.writes() && !self.overwrite_data;
        let buffers = u64::from(self.writes()) + u64::from(self.reads() || samples);
        u64::from(self.slots()) * u64::from(self.request_bytes) * buffers
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
        bound(self.processors.len() <= PROCESSORS_MAX, "--core", "at most 64 processors")?;
        bound(
            self.buffer_bytes() * u64::from(self.generators()) <= BUFFER_BYTES_MAX,
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
        let least = u64::from(self.request_bytes) * u64::from(self.generators());
        bound(
            self.bytes_max.is_none_or(|bytes| bytes >= least),
            "--bytes",
            "at least one request of each core",
        )?;
        self.check_target()
    }

    /// What does not go together with this target.
    fn check_target(&self) -> Result<(), BenchError> {
        let is_iscsi = matches!(self.target, Target::Iscsi { .. });
        if is_iscsi && (self.header_digest || self.data_digest) {
            return Err(BenchError::Contradiction {
                first: "--header-digest or --data-digest",
                second: "an iSCSI target",
                reason: "the generator's iSCSI client has no digests",
            });
        }
        let is_local = self.target.is_local();
        if is_local && (self.header_digest || self.data_digest || self.client_name.is_some()) {
            return Err(BenchError::Contradiction {
                first: "--header-digest, --data-digest or --client-name",
                second: "a controller of this machine",
                reason: "nothing goes over a network",
            });
        }
        if is_local && self.spin_us.is_some() {
            return Err(BenchError::Contradiction {
                first: "--spin-us",
                second: "a controller of this machine",
                reason: "its completions are only seen by looking at the queues, so nothing would end the sleep",
            });
        }
        let is_pcie = matches!(self.target, Target::Pcie { .. });
        if !is_pcie && (self.confirm_serial.is_some() || self.no_iommu) {
            return Err(BenchError::Contradiction {
                first: "--confirm-serial or --no-iommu",
                second: "another target than a PCI Express controller",
                reason: "only those are taken from the kernel",
            });
        }
        if matches!(self.target, Target::Emulated { .. }) && self.generators() > 1 {
            return Err(BenchError::Contradiction {
                first: "several processors with --core",
                second: "an emulated controller",
                reason: "it lives on one core",
            });
        }
        let twice = self.processors.iter().enumerate().find(|(at, one)| self.processors[..*at].contains(one));
        if twice.is_some() {
            return Err(BenchError::Option { option: "--core", bounds: "each processor once" });
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
        let digests = Plan { target, header_digest: true, ..good.clone() };
        assert!(digests.check().is_err());
        let emulated: Target = "nvme-emulated://64MiB".parse().expect("a target");
        let local = Plan { target: emulated, ..good.clone() };
        local.check().expect("an emulated controller");
        for (number, change) in [
            (|plan| plan.processors = vec![0, 1]) as fn(&mut Plan),
            |plan| plan.data_digest = true,
            |plan| plan.spin_us = Some(0),
            |plan| plan.confirm_serial = Some("S".to_owned()),
            |plan| plan.processors = vec![0; 65],
        ]
        .into_iter()
        .enumerate()
        {
            let mut plan = local.clone();
            change(&mut plan);
            assert!(plan.check().expect_err("a contradiction").is_usage(), "{number}");
        }
        assert!(Plan { processors: vec![1, 1], ..good }.check().is_err());
    }
}
