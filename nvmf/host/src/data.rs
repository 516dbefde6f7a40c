//! The buffers of commands: pooled ones for I/O, the heap for the few bytes of the control path.

use nvmf_proto::Payload;
use reactor::buffer::Sgl;

/// The data of one command.
#[derive(Debug)]
pub enum Data {
    /// Pooled buffers: I/O.
    Pool(Sgl),
    /// Heap memory: Connect, Identify, log pages.
    Heap(Vec<u8>),
}

impl Data {
    /// `length_bytes` zeros on the heap.
    pub fn zeros(length_bytes: usize) -> Self {
        Self::Heap(vec![0; length_bytes])
    }

    /// The pooled buffers, or none.
    pub fn into_sgl(self) -> Sgl {
        match self {
            Self::Pool(sgl) => sgl,
            Self::Heap(_) => Sgl::empty(),
        }
    }
}

impl Payload for Data {
    fn len(&self) -> usize {
        match self {
            Self::Pool(sgl) => sgl.len(),
            Self::Heap(bytes) => bytes.len(),
        }
    }

    fn chunk(&self, offset_bytes: usize) -> &[u8] {
        match self {
            Self::Pool(sgl) => sgl.chunk(offset_bytes),
            Self::Heap(bytes) => &bytes[offset_bytes..],
        }
    }

    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        match self {
            Self::Pool(sgl) => sgl.chunk_mut(offset_bytes),
            Self::Heap(bytes) => &mut bytes[offset_bytes..],
        }
    }
}
