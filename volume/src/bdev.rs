//! The one block interface: what every holder of blocks offers, per core, completion-based.
//!
//! A channel belongs to one core. `submit` either answers at once or keeps the I/O, with its
//! buffers, until `poll` gives it back; in flight means owned.

use reactor::buffer::Sgl;

/// A run of logical blocks. Whoever builds one has checked that it lies on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; may be 0 only where an operation says so.
    pub length_blocks: u64,
}

impl Extent {
    /// `None` when the run wraps or ends past `device_blocks`.
    pub fn new(lba: u64, length_blocks: u64, device_blocks: u64) -> Option<Self> {
        (lba.checked_add(length_blocks)? <= device_blocks).then_some(Self { lba, length_blocks })
    }

    /// The block after the last one.
    pub fn end(self) -> u64 {
        self.lba + self.length_blocks
    }

    /// True when the two share a block.
    pub fn overlaps(self, other: Self) -> bool {
        self.lba < other.end() && other.lba < self.end()
    }
}

/// What to do. Lengths of payloads are exactly `length_blocks * logical_block_bytes` unless said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill the payload list.
    Read(Extent),
    /// Write the payload; with `fua` the answer comes when it is on the medium.
    Write {
        /// Where.
        extent: Extent,
        /// Force unit access.
        fua: bool,
    },
    /// Write the payload all or nothing, whatever happens: after a crash of the process or a power cut at any moment the blocks
    /// read as before or as the payload, never a mixture. At most [`BdevInfo::atomic_write_blocks`].
    AtomicWrite {
        /// Where.
        extent: Extent,
        /// Force unit access.
        fua: bool,
    },
    /// Everything acknowledged before is on the medium when this is answered.
    Flush,
    /// Free the blocks; they read zeros afterwards. No payload.
    Unmap(Extent),
    /// The blocks read zeros afterwards; `unmap` allows freeing them. No payload.
    WriteZeroes {
        /// Where.
        extent: Extent,
        /// The blocks may be freed.
        unmap: bool,
        /// Force unit access.
        fua: bool,
    },
    /// Compare the payload with the blocks: `Good` or `Miscompare`.
    Compare(Extent),
    /// The payload is twice the extent: what must be there, then what shall be there. Atomic with
    /// respect to everything else on the volume.
    CompareAndWrite {
        /// Where.
        extent: Extent,
        /// Force unit access.
        fua: bool,
    },
    /// The blocks become themselves OR the payload. Atomic like [`Op::CompareAndWrite`].
    OrWrite {
        /// Where.
        extent: Extent,
        /// Force unit access.
        fua: bool,
    },
    /// How many blocks from `lba` on share one allocation state: answered by `IoStatus::Mapped`.
    /// `length_blocks` is a limit on how far to look. No payload.
    BlockStatus(Extent),
}

/// How an I/O ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoStatus {
    /// Done.
    Good,
    /// Answer to [`Op::BlockStatus`].
    Mapped {
        /// The blocks are allocated.
        mapped: bool,
        /// So many blocks share that state.
        length_blocks: u64,
    },
    /// The first byte that differs, counted from the start of the payload; 0 as well when it could not be found out afterwards. Nothing
    /// was written.
    Miscompare {
        /// Offset into the payload.
        offset_bytes: u64,
    },
    /// The blocks cannot be read: never zeros, never stale.
    ReadError {
        /// The first block concerned.
        lba: u64,
    },
    /// The blocks could not be written; their content is old or new, per block.
    WriteError {
        /// The first block concerned.
        lba: u64,
    },
    /// No space for a block that was not allocated. Nothing was written.
    NoSpace,
    /// The I/O was taken back before it had any effect.
    Aborted,
    /// The device is being closed or has failed for good.
    Gone,
}

/// An I/O on its way down.
#[derive(Debug)]
pub struct Io {
    /// The caller's own number, unique among its I/Os in flight on this channel.
    pub tag: u64,
    /// What to do.
    pub op: Op,
    /// The payload, or empty.
    pub sgl: Sgl,
}

/// An I/O on its way back up, with its buffers.
#[derive(Debug)]
pub struct Done {
    /// The caller's number.
    pub tag: u64,
    /// How it ended.
    pub status: IoStatus,
    /// The payload that came with it; of a good read, filled.
    pub sgl: Sgl,
}

/// What a device is, truthfully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BdevInfo {
    /// 512 or 4096.
    pub logical_block_bytes: u32,
    /// The unit that the device keeps, below which a write may cost a read; a multiple of the logical
    /// block.
    pub physical_block_bytes: u32,
    /// Number of logical blocks.
    pub length_blocks: u64,
    /// Acknowledged writes may be lost with the power until Flush.
    pub volatile_write_cache: bool,
    /// Unmap frees blocks and they read zeros afterwards.
    pub thin: bool,
    /// The unit of unmap, in logical blocks, at least 1.
    pub unmap_granularity_blocks: u32,
    /// The longest run of blocks that every [`Op::Write`] writes all or nothing, in logical blocks, at least 1.
    pub write_unit_blocks: u32,
    /// The longest [`Op::AtomicWrite`], in logical blocks, at least `write_unit_blocks`.
    pub atomic_write_blocks: u32,
    /// Identity of the data: same bytes, same number, for ever.
    pub uuid: uuid::Uuid,
}

/// Who answers an operation that compares: [`Op::Compare`], [`Op::CompareAndWrite`] or [`Op::OrWrite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparing {
    /// The channel.
    Channel,
    /// The channel, and it does not know where the first difference is: the offset of its [`IoStatus::Miscompare`] is 0. A
    /// [`crate::volume::Volume`] looks for it.
    ChannelWithoutPlace,
    /// Not the channel, which is never given one: a [`crate::volume::Volume`] builds it from reads and writes.
    Volume,
}

/// One core's way to a device.
pub trait IoChannel {
    /// What the device is now (a grow changes `length_blocks`).
    fn info(&self) -> BdevInfo;

    /// Starts an I/O, or finishes it on the spot: then the answer is returned and `poll` will not
    /// give it again.
    fn submit(&mut self, io: Io) -> Option<Done>;

    /// Appends what has completed to `out`; at most about `budget` items.
    fn poll(&mut self, out: &mut Vec<Done>, budget: usize);

    /// I/Os submitted and not yet given back.
    fn in_flight(&self) -> usize;

    /// The blocks where they lie, as they are now, instead of a copy of them by [`Op::Read`]: what happens to them later does not change
    /// what the list holds, and the list cannot be written. `None` when the device cannot show them now; then they are to be read.
    #[inline]
    fn show(&mut self, extent: Extent) -> Option<Sgl> {
        let _ = extent;
        None
    }

    /// The CRC-32C of the blocks as they are now, from a device that keeps such values: it has not read the blocks for it, or will not
    /// have to the next time. `None` from any other, and for runs of blocks of which it keeps none.
    #[inline]
    fn crc32c(&self, extent: Extent) -> Option<u32> {
        let _ = extent;
        None
    }

    /// A hint that this I/O, whose blocks are on the device, comes in this turn: what it will copy or show may be fetched while other
    /// work is done. It changes nothing and reads nothing.
    #[inline]
    fn prefetch(&self, op: Op) {
        let _ = op;
    }

    /// True when the device may have acknowledged writes in a volatile cache that no flush has put on its medium: what it
    /// loses when its power goes. A channel that keeps no account says what its cache makes possible.
    fn has_unflushed(&self) -> bool {
        self.info().volatile_write_cache
    }

    /// True when the channel itself answers [`Op::Compare`], [`Op::CompareAndWrite`] and
    /// [`Op::OrWrite`], all of them and whatever their length. One that says false is asked by
    /// [`IoChannel::comparing`] before each.
    fn answers_compare(&self) -> bool {
        false
    }

    /// Who answers `op`, which compares. To be asked of a channel that does not answer all of them.
    fn comparing(&self, op: &Op) -> Comparing {
        let _ = op;
        if self.answers_compare() { Comparing::Channel } else { Comparing::Volume }
    }

    /// Bytes that the device occupies, where it knows.
    fn allocated_bytes(&self) -> Option<u64> {
        None
    }

    /// Takes note that the device is now `length_blocks` long; the blocking part of the growth was
    /// done before. False when this back end cannot grow, or would shrink.
    fn grow(&mut self, length_blocks: u64) -> bool {
        let _ = length_blocks;
        false
    }
}

impl IoStatus {
    /// True when the I/O did what it was asked to do.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Good | Self::Mapped { .. })
    }
}

impl Op {
    /// The blocks it names; `None` for a flush.
    pub fn extent(&self) -> Option<Extent> {
        match *self {
            Self::Read(extent) | Self::Unmap(extent) | Self::Compare(extent) | Self::BlockStatus(extent) => {
                Some(extent)
            }
            Self::Write { extent, .. }
            | Self::AtomicWrite { extent, .. }
            | Self::WriteZeroes { extent, .. }
            | Self::CompareAndWrite { extent, .. }
            | Self::OrWrite { extent, .. } => Some(extent),
            Self::Flush => None,
        }
    }

    /// True when it looks at the blocks before it answers: [`IoChannel::comparing`] says who does it.
    #[inline]
    pub fn compares(&self) -> bool {
        matches!(self, Self::Compare(_) | Self::CompareAndWrite { .. } | Self::OrWrite { .. })
    }

    /// True when it can change blocks.
    pub fn changes_blocks(&self) -> bool {
        match self {
            Self::Read(_) | Self::Compare(_) | Self::BlockStatus(_) | Self::Flush => false,
            Self::Write { .. }
            | Self::AtomicWrite { .. }
            | Self::Unmap(_)
            | Self::WriteZeroes { .. }
            | Self::CompareAndWrite { .. }
            | Self::OrWrite { .. } => true,
        }
    }

    /// The bytes of payload that come with it.
    pub fn payload_bytes(&self, logical_block_bytes: u32) -> u64 {
        let block_bytes = u64::from(logical_block_bytes);
        match self {
            Self::Read(extent) | Self::Compare(extent) => extent.length_blocks * block_bytes,
            Self::Write { extent, .. } | Self::AtomicWrite { extent, .. } | Self::OrWrite { extent, .. } => {
                extent.length_blocks * block_bytes
            }
            Self::CompareAndWrite { extent, .. } => 2 * extent.length_blocks * block_bytes,
            Self::Flush | Self::Unmap(_) | Self::WriteZeroes { .. } | Self::BlockStatus(_) => 0,
        }
    }
}
