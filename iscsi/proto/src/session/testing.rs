//! Buffers and a host for tests: heap memory in awkward chunks, with a budget.

use super::host::{Host, Payload};

/// A payload in chunks of `chunk_bytes`, so that every boundary is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    bytes: Vec<u8>,
    chunk_bytes: usize,
}

impl Chunks {
    /// A copy of `bytes`.
    pub fn of(bytes: &[u8], chunk_bytes: usize) -> Self {
        assert!(chunk_bytes > 0);
        Self { bytes: bytes.to_vec(), chunk_bytes }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn chunk_end(&self, offset_bytes: usize) -> usize {
        ((offset_bytes / self.chunk_bytes + 1) * self.chunk_bytes).min(self.bytes.len())
    }
}

impl Payload for Chunks {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self, offset_bytes: usize) -> &[u8] {
        &self.bytes[offset_bytes..self.chunk_end(offset_bytes)]
    }

    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        let end = self.chunk_end(offset_bytes);
        &mut self.bytes[offset_bytes..end]
    }
}

/// A host whose CDBs say in bytes 1..5 how much they take, if byte 0 is 0x2a.
#[derive(Clone, Debug)]
pub struct TestHost {
    /// Size of the chunks it gives.
    pub chunk_bytes: usize,
    /// Bytes that it still gives.
    pub budget_bytes: usize,
}

impl Default for TestHost {
    fn default() -> Self {
        Self { chunk_bytes: 512, budget_bytes: usize::MAX }
    }
}

impl TestHost {
    /// A CDB that takes `length_bytes` from the initiator.
    pub fn write_cdb(length_bytes: u32) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[0] = 0x2a;
        cdb[1..5].copy_from_slice(&length_bytes.to_be_bytes());
        cdb
    }
}

impl Host for TestHost {
    type Payload = Chunks;

    fn data_out_length(&mut self, _lun: u64, cdb: &[u8]) -> u64 {
        match cdb {
            [0x2a, a, b, c, d, ..] => u64::from(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => 0,
        }
    }

    fn alloc(&mut self, length_bytes: usize) -> Option<Chunks> {
        self.budget_bytes = self.budget_bytes.checked_sub(length_bytes)?;
        Some(Chunks { bytes: vec![0xee; length_bytes], chunk_bytes: self.chunk_bytes })
    }
}
