//! The shape of a device, checked once so that nothing behind it has to.

use uuid::Uuid;

use crate::limits::{MAX_DEVICE_BYTES, MIN_DEVICE_BYTES};

/// Why a shape is not one a device can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// Only 512 and 4096 are block sizes here.
    #[error("the block size is {found} bytes; use 512 or 4096")]
    BlockSize {
        /// What was asked for.
        found: u32,
    },
    /// A device holds whole blocks.
    #[error("the size, {length_bytes} bytes, is not a multiple of the block size, {logical_block_bytes}")]
    NotWholeBlocks {
        /// What was asked for.
        length_bytes: u64,
        /// The block size.
        logical_block_bytes: u32,
    },
    /// Too small or too large.
    #[error("the size is {length_bytes} bytes; use {MIN_DEVICE_BYTES} to {MAX_DEVICE_BYTES}")]
    Size {
        /// What was asked for.
        length_bytes: u64,
    },
}

/// Identity, block size and length of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Identity of the data.
    pub uuid: Uuid,
    /// 512 or 4096.
    pub logical_block_bytes: u32,
    /// Number of logical blocks.
    pub length_blocks: u64,
}

impl Geometry {
    /// Checks block size and length.
    pub fn new(uuid: Uuid, logical_block_bytes: u32, length_bytes: u64) -> Result<Self, GeometryError> {
        if !matches!(logical_block_bytes, 512 | 4096) {
            return Err(GeometryError::BlockSize { found: logical_block_bytes });
        }
        if !(MIN_DEVICE_BYTES..=MAX_DEVICE_BYTES).contains(&length_bytes) {
            return Err(GeometryError::Size { length_bytes });
        }
        if !length_bytes.is_multiple_of(u64::from(logical_block_bytes)) {
            return Err(GeometryError::NotWholeBlocks { length_bytes, logical_block_bytes });
        }
        let length_blocks = length_bytes / u64::from(logical_block_bytes);
        Ok(Self { uuid, logical_block_bytes, length_blocks })
    }

    /// The length in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.length_blocks * u64::from(self.logical_block_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_sharp() {
        let new = |block, bytes| Geometry::new(Uuid::nil(), block, bytes);
        assert_eq!(new(1024, 1 << 20), Err(GeometryError::BlockSize { found: 1024 }));
        assert_eq!(new(512, (1 << 20) - 512), Err(GeometryError::Size { length_bytes: (1 << 20) - 512 }));
        assert!(new(512, (1 << 20) + 512).is_ok());
        assert!(new(4096, (1 << 20) + 512).is_err());
        assert!(new(4096, MAX_DEVICE_BYTES).is_ok());
        assert!(new(4096, MAX_DEVICE_BYTES + 4096).is_err());
        assert_eq!(new(512, 1 << 20).map(|g| (g.length_blocks, g.length_bytes())), Ok((2048, 1 << 20)));
    }
}
