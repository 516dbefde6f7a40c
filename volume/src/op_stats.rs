//! Which counter an operation goes to.
//!
//! A volume has no clock, and an I/O that it answers on the spot has no duration that it could see.
//! So the caller records each I/O when it answers its initiator, with [`OpKind::record`]: the time
//! it measures is the time that the initiator waits.

use reactor::stats::{OpStats, StatsSet};

use crate::bdev::{IoStatus, Op};

/// The classes in which I/O is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Reads and compares.
    Read,
    /// Writes of every kind that carry a payload.
    Write,
    /// Flushes.
    Flush,
    /// Unmaps, and zeroing that may unmap.
    Unmap,
    /// The rest.
    Other,
}

impl OpKind {
    /// The names of the entries of a volume's statistics, in the order of [`OpKind`].
    pub const NAMES: [&'static str; 5] = ["read", "write", "flush", "unmap", "other"];

    /// The class of `op`.
    #[inline]
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Read(_) | Op::Compare(_) => Self::Read,
            Op::Write { .. } | Op::AtomicWrite { .. } | Op::CompareAndWrite { .. } | Op::OrWrite { .. } => {
                Self::Write
            }
            Op::WriteZeroes { unmap: false, .. } => Self::Write,
            Op::Flush => Self::Flush,
            Op::Unmap(_) | Op::WriteZeroes { unmap: true, .. } => Self::Unmap,
            Op::BlockStatus(_) => Self::Other,
        }
    }

    /// A fresh set of counters for the volume called `name`.
    pub fn stats_set(name: impl Into<String>) -> StatsSet {
        StatsSet::new(name, &Self::NAMES)
    }

    /// This class's entry of `stats`, which [`OpKind::stats_set`] made.
    #[inline]
    pub fn entry(self, stats: &StatsSet) -> &OpStats {
        &stats.ops[self as usize].1
    }

    /// Records one I/O that ended with `status` after `latency_ns`. A miscompare is an answer, not
    /// an error.
    #[inline]
    pub fn record(self, stats: &StatsSet, status: IoStatus, bytes: u64, latency_ns: u64) {
        match status {
            IoStatus::Good | IoStatus::Mapped { .. } | IoStatus::Miscompare { .. } => {
                self.entry(stats).record(bytes, latency_ns);
            }
            IoStatus::ReadError { .. }
            | IoStatus::WriteError { .. }
            | IoStatus::NoSpace
            | IoStatus::Aborted
            | IoStatus::Gone => self.entry(stats).record_error(latency_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::Extent;

    #[test]
    fn each_operation_is_counted_under_its_name() {
        let stats = OpKind::stats_set("v");
        let extent = Extent { lba: 0, length_blocks: 8 };
        for (op, name) in [
            (Op::Read(extent), "read"),
            (Op::Write { extent, fua: true }, "write"),
            (Op::AtomicWrite { extent, fua: false }, "write"),
            (Op::WriteZeroes { extent, unmap: true, fua: false }, "unmap"),
            (Op::WriteZeroes { extent, unmap: false, fua: false }, "write"),
            (Op::Flush, "flush"),
            (Op::BlockStatus(extent), "other"),
        ] {
            let entry = stats.op(name).expect("a name of the set");
            let before = entry.operations.get();
            OpKind::of(&op).record(&stats, IoStatus::Good, 4096, 1_000);
            OpKind::of(&op).record(&stats, IoStatus::NoSpace, 4096, 1_000);
            assert_eq!(entry.operations.get(), before + 2, "{op:?}");
        }
        assert_eq!(stats.op("write").map(|w| (w.bytes.get(), w.errors.get())), Some((12_288, 3)));
    }
}
