//! A namespace: its size, its format, its medium.

use nvme_spec::Status;
use reactor::random::Random;
use reactor::sim::SimRandom;

use crate::config::{Format, NamespaceConfig};
use crate::media::{Extent, Media};

pub(crate) struct Namespace {
    pub(crate) nsid: u32,
    pub(crate) length_blocks: u64,
    pub(crate) format: Format,
    /// Metadata is transferred with the data of each block.
    pub(crate) extended: bool,
    pub(crate) optimal_boundary_blocks: u16,
    pub(crate) attached: bool,
    /// Deallocated or Unwritten Logical Block Error is on.
    pub(crate) deallocated_error: bool,
    pub(crate) uuid: [u8; 16],
    pub(crate) media: Media,
}

/// A run of blocks that lies in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Namespace {
    pub(crate) fn new(config: &NamespaceConfig, cache_bytes: usize, caching: bool, seed: u64) -> Self {
        let length_bytes = config.length_blocks << config.format.block_bits();
        Self {
            nsid: config.nsid,
            length_blocks: config.length_blocks,
            format: config.format,
            extended: false,
            optimal_boundary_blocks: config.optimal_boundary_blocks,
            attached: config.attached,
            deallocated_error: false,
            uuid: unique_id(seed, config.nsid),
            media: Media::new(length_bytes, cache_bytes, caching),
        }
    }

    /// The run, if all of it is in the namespace.
    #[inline]
    pub(crate) fn blocks(&self, first: u64, count: u64) -> Result<Blocks, Status> {
        let end = first.checked_add(count).filter(|end| *end <= self.length_blocks);
        end.map(|_| Blocks { first, count }).ok_or(Status::LBA_OUT_OF_RANGE.with_dnr())
    }

    /// Where the run is on the medium.
    #[inline]
    pub(crate) fn extent(&self, blocks: Blocks) -> Extent {
        let bits = self.format.block_bits();
        blocks.first << bits..(blocks.first + blocks.count) << bits
    }

    /// The block that a byte of the medium belongs to.
    pub(crate) fn block_of(&self, byte: u64) -> u64 {
        byte >> self.format.block_bits()
    }

    /// Everything is gone, in another format and length.
    pub(crate) fn reformat(&mut self, format: Format, length_blocks: u64, cache_bytes: usize, caching: bool) {
        self.format = format;
        self.length_blocks = length_blocks;
        self.media = Media::new(length_blocks << format.block_bits(), cache_bytes, caching);
    }
}

/// A random UUID (version 4) that depends on nothing but the controller's seed and the namespace.
fn unique_id(seed: u64, nsid: u32) -> [u8; 16] {
    let mut id = [0; 16];
    SimRandom::new(seed ^ u64::from(nsid) << 32).fill(&mut id);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}
