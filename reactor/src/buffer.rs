//! Pooled buffers and scatter-gather lists. No allocation after start; a full pool is back-pressure.

use smallvec::SmallVec;

/// A pool of fixed-size pages of DMA-able memory, shared by everything on one core.
#[derive(Clone, Debug)]
pub struct BufferPool {}

/// One slot of a pool; it goes home when dropped.
#[derive(Debug)]
pub struct Buffer {}

/// An ordered list of buffers that holds `len()` valid bytes.
#[derive(Debug, Default)]
pub struct Sgl {
    _segments: SmallVec<[Buffer; 2]>,
    length_bytes: usize,
}

impl Sgl {
    /// The number of valid bytes.
    pub fn len(&self) -> usize {
        self.length_bytes
    }
}
