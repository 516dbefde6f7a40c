//! The buffers that the layer above hands in.

/// An ordered list of buffers that holds the data of one command.
pub trait Payload: Sized {
    /// How many valid bytes it holds.
    fn len(&self) -> usize;

    /// True without any.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The contiguous bytes that start at `offset_bytes`: at least one while the offset is below [`Payload::len`].
    fn chunk(&self, offset_bytes: usize) -> &[u8];

    /// The CRC-32C of all of its bytes, where it is known without a look at them.
    fn crc32c(&self) -> Option<u32> {
        None
    }

    /// The same bytes, to be written.
    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8];
}

/// Calls `each` with the contiguous pieces of `length_bytes` bytes from `offset_bytes` on.
pub(crate) fn for_each_chunk(
    payload: &impl Payload,
    offset_bytes: usize,
    length_bytes: usize,
    mut each: impl FnMut(&[u8]),
) {
    let end = offset_bytes + length_bytes;
    let mut at = offset_bytes;
    while at < end {
        let chunk = payload.chunk(at);
        let taken = chunk.len().min(end - at);
        each(&chunk[..taken]);
        at += taken;
    }
}

/// Writes `bytes` into a payload from `offset_bytes` on.
pub(crate) fn store(payload: &mut impl Payload, mut offset_bytes: usize, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let chunk = payload.chunk_mut(offset_bytes);
        let taken = chunk.len().min(bytes.len());
        let (now, rest) = bytes.split_at(taken);
        chunk[..taken].copy_from_slice(now);
        offset_bytes += taken;
        bytes = rest;
    }
}
