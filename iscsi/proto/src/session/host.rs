//! What a session asks of the layer above while it parses, and the buffers that this layer hands in.

/// An ordered list of buffers that holds one command's data.
pub trait Payload: Sized {
    /// How many valid bytes it holds.
    fn len(&self) -> usize;

    /// True without any.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The contiguous bytes that start at `offset_bytes`: at least one while the offset is below [`Payload::len`].
    fn chunk(&self, offset_bytes: usize) -> &[u8];

    /// The same bytes, to be written.
    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8];
}

/// Questions that a session needs answered on the spot.
pub trait Host {
    /// The buffers of this layer.
    type Payload: Payload;

    /// How many bytes of Data-Out the command takes from the initiator: 0 for a command that takes none, is
    /// unknown or will be refused (too long, for example). It may exceed the expected data transfer
    /// length. `lun` is the LUN field as the big-endian number of its 8 bytes. Asked once per command.
    fn data_out_length(&mut self, lun: u64, cdb: &[u8]) -> u64;

    /// A buffer of exactly `length_bytes`, contents unspecified. `None` is back-pressure, so it may only be said
    /// of a length that the pool can give at some other time.
    fn alloc(&mut self, length_bytes: usize) -> Option<Self::Payload>;
}
