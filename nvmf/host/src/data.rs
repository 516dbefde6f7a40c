//! The buffers of commands: pooled ones for I/O, the heap for the few bytes of the control path.

use std::rc::Rc;

use nvmf_proto::Payload;
use reactor::buffer::Sgl;

/// The data of one command.
#[derive(Debug)]
pub enum Data {
    /// Pooled buffers: I/O.
    Pool(Sgl),
    /// Heap memory: Connect, Identify, log pages.
    Heap(Vec<u8>),
    /// Heap memory and the CRC-32C of all of it: what is written again and again needs its data digest once. Only ever sent.
    Checked(Vec<u8>, u32),
    /// Some of the data that two fused commands share; only ever sent.
    Part {
        /// Of both.
        all: Rc<Sgl>,
        /// Where this command's begins.
        offset_bytes: usize,
        /// How much is this command's.
        length_bytes: usize,
    },
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
            Self::Heap(_) | Self::Checked(..) | Self::Part { .. } => Sgl::empty(),
        }
    }
}

impl Payload for Data {
    fn len(&self) -> usize {
        match self {
            Self::Pool(sgl) => sgl.len(),
            Self::Heap(bytes) | Self::Checked(bytes, _) => bytes.len(),
            Self::Part { length_bytes, .. } => *length_bytes,
        }
    }

    fn chunk(&self, offset_bytes: usize) -> &[u8] {
        match self {
            Self::Pool(sgl) => sgl.chunk(offset_bytes),
            Self::Heap(bytes) | Self::Checked(bytes, _) => &bytes[offset_bytes..],
            Self::Part { all, offset_bytes: begin, length_bytes } => {
                let chunk = all.chunk(begin + offset_bytes);
                &chunk[..chunk.len().min(length_bytes - offset_bytes)]
            }
        }
    }

    fn crc32c(&self) -> Option<u32> {
        match self {
            Self::Checked(_, crc32c) => Some(*crc32c),
            _ => None,
        }
    }

    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        match self {
            Self::Pool(sgl) => sgl.chunk_mut(offset_bytes),
            Self::Heap(bytes) => &mut bytes[offset_bytes..],
            Self::Checked(..) | Self::Part { .. } => {
                unreachable!("a queue receives into the data of reads alone")
            }
        }
    }
}
