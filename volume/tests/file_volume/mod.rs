//! The file volume that the checks of crashes and of atomic writes share.

use uuid::Uuid;
use volume::bdev::BdevInfo;
use volume::io_mode::{BufferedReason, IoMode};

pub const BLOCK: u64 = 512;
pub const BLOCKS: u64 = 4096;
pub const DIRECT: IoMode = IoMode::Direct { align_bytes: 512 };
pub const BUFFERED: IoMode = IoMode::Buffered(BufferedReason::Asked);

/// A thin volume of [`BLOCKS`] blocks on pages of 4 KiB.
pub fn info() -> BdevInfo {
    BdevInfo {
        logical_block_bytes: BLOCK as u32,
        physical_block_bytes: 4096,
        length_blocks: BLOCKS,
        volatile_write_cache: true,
        thin: true,
        unmap_granularity_blocks: 8,
        write_unit_blocks: 1,
        atomic_write_blocks: 1,
        uuid: Uuid::from_u128(1),
    }
}
