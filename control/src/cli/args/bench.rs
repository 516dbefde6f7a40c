//! Definition of `vega bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::bench::BenchOptions;
use crate::model::ByteSize;

/// What a load does, in the words of fio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Pattern {
    /// Read one place after the other
    Read,
    /// Write one place after the other
    Write,
    /// Read and write one place after the other
    Rw,
    /// Read at random places
    #[default]
    Randread,
    /// Write at random places
    Randwrite,
    /// Read and write at random places
    Randrw,
}

/// How requests of a fixed rate arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Arrival {
    /// At equal distances
    #[default]
    Constant,
    /// Like those of many independent users
    Poisson,
}

#[derive(Args)]
pub(in crate::cli) struct BenchArgs {
    /// nvme-tcp://HOST[:PORT]/NQN[?nsid=N], iscsi://HOST[:PORT]/TARGET/LUN, nvme-pcie://ADDRESS[?nsid=N] (a controller of this
    /// machine, driven from user space), nvme-emulated://SIZE[?block=512] (one in this process), or the words of an NVMe
    /// transport identifier: trtype=pcie traddr=0000:01:00.0 ns=1
    #[arg(required = true, num_args = 1.., value_name = "TARGET")]
    target: Vec<String>,
    /// What to do
    #[arg(long, value_enum, default_value_t)]
    pattern: Pattern,
    /// Reads among 100 requests, for rw and randrw
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    read_percent: u8,
    /// Bytes of one request
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    block_size: ByteSize,
    /// Requests in flight per queue; with --rate at most so many
    #[arg(long, default_value_t = 1)]
    depth: u32,
    /// NVMe I/O queues, or iSCSI sessions, of each processor
    #[arg(long, default_value_t = 1)]
    queues: u16,
    /// Requests per second (open loop, latency counts from the intended start) instead of a steady depth
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// How requests arrive with --rate
    #[arg(long, value_enum, default_value_t, requires = "rate")]
    arrival: Arrival,
    /// How long to measure: 90, 90s, 5m, 1h
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    runtime: Duration,
    /// Load before that is not counted
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    warm_up: Duration,
    /// End after so many bytes if that is earlier; then nothing warms up
    #[arg(long, value_name = "SIZE")]
    bytes: Option<ByteSize>,
    /// Processors that make the load, for instance 2 or 2,3; each has queues of its own and its share of the target, and spins
    /// (see --spin-us)
    #[arg(long, value_name = "PROCESSOR", value_delimiter = ',')]
    core: Vec<usize>,
    /// Sleep after so many microseconds without an answer, until the next one, instead of spinning always: for targets that share the
    /// processor, as a disk of this machine does with its interrupts
    #[arg(long, value_name = "MICROSECONDS")]
    spin_us: Option<u64>,
    /// Digests over NVMe/TCP headers
    #[arg(long)]
    header_digest: bool,
    /// Digests over NVMe/TCP data
    #[arg(long)]
    data_digest: bool,
    /// Host NQN or iSCSI initiator name to connect with [default: a new one]
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// Stamp what is written, check what is read
    #[arg(long)]
    verify: bool,
    /// Destroy what the target holds; without it only an empty target, or one that an earlier run has written, is written to
    #[arg(long)]
    overwrite_data: bool,
    /// Serial number of a controller of this machine that is used, labelled or holds data, and is to be taken and, by a load that
    /// writes, overwritten all the same
    #[arg(long, value_name = "SERIAL")]
    confirm_serial: Option<String>,
    /// Accept that there is no IOMMU: an error can then overwrite any memory of the machine
    #[arg(long)]
    no_iommu: bool,
    /// Start of the sequence of random places
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the latency of each percentile as a picture (SVG)
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("the unit is none of ms, s, m, h"),
    };
    let seconds: f64 = digits.parse().map_err(|_| "it does not begin with a number")?;
    Duration::try_from_secs_f64(seconds * factor).map_err(|_| "it is out of bounds")
}

impl BenchArgs {
    /// As plain data.
    pub(in crate::cli) fn options(self) -> BenchOptions {
        let (random, read_percent) = match self.pattern {
            Pattern::Read => (false, 100),
            Pattern::Write => (false, 0),
            Pattern::Rw => (false, self.read_percent),
            Pattern::Randread => (true, 100),
            Pattern::Randwrite => (true, 0),
            Pattern::Randrw => (true, self.read_percent),
        };
        BenchOptions {
            target: self.target.join(" "),
            random,
            read_percent,
            // What does not fit is out of the generator's bounds, which it tells.
            request_bytes: u32::try_from(self.block_size.0).unwrap_or(u32::MAX),
            depth: self.depth,
            queues: self.queues,
            rate_per_second: self.rate,
            poisson: self.arrival == Arrival::Poisson,
            runtime: self.runtime,
            warm_up: self.warm_up,
            bytes_max: self.bytes.map(|bytes| bytes.0),
            processors: self.core,
            spin_us: self.spin_us,
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            client_name: self.client_name,
            verify: self.verify,
            overwrite_data: self.overwrite_data,
            confirm_serial: self.confirm_serial,
            no_iommu: self.no_iommu,
            seed: self.seed,
            plot: self.plot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        for wrong in ["", "s", "5d", "-1s", "1e300h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
