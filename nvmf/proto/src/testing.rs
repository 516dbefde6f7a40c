//! Buffers and an admission for tests: heap memory in awkward chunks, with a budget. And PDUs, built and parsed by other code than
//! that of the queues. And noise for fuzz targets.

pub mod noise;
pub mod wire;

use std::cell::Cell;
use std::rc::Rc;

use nvme_spec::{Sqe, Status};

use crate::payload::Payload;
use crate::target::{Admission, Purpose};

/// A payload in chunks of `chunk_bytes`, so that every boundary is met. Its bytes go back to the budget they came from.
#[derive(Debug)]
pub struct Chunks {
    bytes: Vec<u8>,
    chunk_bytes: usize,
    budget_bytes: Option<Rc<Cell<usize>>>,
}

impl Chunks {
    /// A copy of `bytes`.
    pub fn of(bytes: &[u8], chunk_bytes: usize) -> Self {
        assert!(chunk_bytes > 0);
        Self { bytes: bytes.to_vec(), chunk_bytes, budget_bytes: None }
    }

    /// `length_bytes` bytes that nobody wrote.
    pub fn blank(length_bytes: usize, chunk_bytes: usize) -> Self {
        Self::of(&vec![0xee; length_bytes], chunk_bytes)
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn chunk_end(&self, offset_bytes: usize) -> usize {
        ((offset_bytes / self.chunk_bytes + 1) * self.chunk_bytes).min(self.bytes.len())
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        if let Some(budget_bytes) = &self.budget_bytes {
            budget_bytes.set(budget_bytes.get().saturating_add(self.bytes.len()));
        }
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

/// Takes what the SGL describes for opcodes that say "host to controller" in their low bits, and nothing for others. CDW15 lowers
/// the length when it is not zero.
#[derive(Clone, Debug)]
pub struct TestAdmission {
    /// Size of the chunks it gives.
    pub chunk_bytes: usize,
    /// Bytes that are kept for data in capsules.
    pub reserve_bytes: usize,
    budget_bytes: Rc<Cell<usize>>,
}

impl Default for TestAdmission {
    fn default() -> Self {
        Self { chunk_bytes: 512, reserve_bytes: 0, budget_bytes: Rc::new(Cell::new(usize::MAX)) }
    }
}

impl TestAdmission {
    /// Gives so many bytes from now on.
    pub fn set_budget(&mut self, length_bytes: usize) {
        self.budget_bytes.set(length_bytes);
    }

    /// Bytes that it still gives.
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes.get()
    }
}

impl Admission for TestAdmission {
    type Payload = Chunks;

    fn host_data_bytes(&mut self, sqe: &Sqe, sgl_bytes: u32) -> Result<u32, Status> {
        match (sqe.opcode & 0b11, sqe.cdw15.get()) {
            (0b01, 0) => Ok(sgl_bytes),
            (0b01, length_bytes) => Ok(length_bytes),
            (0b11, _) if sqe.opcode == nvme_spec::opcode::FABRICS => Ok(sgl_bytes),
            (0b11, _) => Err(Status::INVALID_OPCODE),
            _ => Ok(0),
        }
    }

    fn alloc(&mut self, length_bytes: usize, purpose: Purpose) -> Option<Chunks> {
        let left_bytes = self.budget_bytes.get().checked_sub(length_bytes)?;
        if purpose == Purpose::Solicited && left_bytes < self.reserve_bytes {
            return None;
        }
        self.budget_bytes.set(left_bytes);
        let mut chunks = Chunks::blank(length_bytes, self.chunk_bytes);
        chunks.budget_bytes = Some(self.budget_bytes.clone());
        Some(chunks)
    }
}

/// Bytes that differ from their neighbours and from those of other seeds.
pub fn pattern(length_bytes: usize, seed: u8) -> Vec<u8> {
    (0..length_bytes).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}
