//! A controller that says what is wrong now and then: in its pages, its completions, and its stream.

use std::io::IoSlice;

use nvme_spec::{Cqe, Status};
use nvmf_proto::CommandId;
use nvmf_proto::testing::noise::Noise;
use zerocopy::little_endian::{U16, U32};

use super::port::Port;
use crate::data::Data;

/// How much of it is wrong.
pub struct Spoil {
    noise: Noise,
    /// One page, completion or I/O answer in so many.
    one_in: usize,
}

impl Spoil {
    pub fn new(seed: u64, one_in: usize) -> Self {
        Self { noise: Noise::seeded(seed), one_in }
    }

    fn hits(&mut self) -> bool {
        self.noise.below(self.one_in) == 0
    }

    /// A few bytes, all ones, or nothing but noise.
    pub(super) fn page(&mut self, page: &mut [u8]) {
        if !self.hits() || page.is_empty() {
            return;
        }
        match self.noise.below(8) {
            0 => page.fill(0xff),
            1 => page.copy_from_slice(&self.noise.bytes(page.len())),
            _ => {
                // Most of what counts stands in the first half.
                for _ in 0..1 + self.noise.below(8) {
                    let at = self.noise.below(page.len().min(600));
                    page[at] = self.noise.bytes(1)[0];
                }
            }
        }
    }

    pub(super) fn completion(&mut self, cqe: &mut Cqe) {
        if !self.hits() {
            return;
        }
        match self.noise.below(3) {
            0 => cqe.set_status(Status::from_bits(self.noise.below(1 << 15) as u16)),
            1 => cqe.dw0 = U32::new(self.noise.below(usize::MAX) as u32),
            _ => cqe.sqhd = U16::new(self.noise.below(1 << 16) as u16),
        }
    }
}

impl Port {
    /// An I/O command is answered without being carried out, or not at all.
    pub(super) fn spoiled_io(&mut self, index: usize, id: CommandId, sgl_bytes: u32) {
        let spoil = self.script.spoil.as_mut().expect("the caller looked");
        if spoil.noise.below(20 * spoil.one_in) == 0 {
            return;
        }
        let mut cqe = Cqe::new(0, Status::SUCCESS);
        spoil.completion(&mut cqe);
        let Some(connection) = &mut self.connections[index] else { return };
        if self.script.seen.last() == Some(&2) && cqe.status().is_success() {
            connection.queue.complete_read(id, cqe, Data::zeros(sgl_bytes as usize));
        } else {
            connection.queue.complete(id, cqe);
        }
    }

    /// Noise between PDUs, or in the middle of one; or an end.
    pub(super) fn spoil_stream(&mut self, index: usize) {
        let Some(spoil) = &mut self.script.spoil else { return };
        if spoil.noise.below(200 * spoil.one_in) != 0 {
            return;
        }
        let Some(connection) = &mut self.connections[index] else { return };
        match spoil.noise.below(3) {
            0 => self.close(index),
            _ => {
                let length = 1 + spoil.noise.below(200);
                let bytes = spoil.noise.bytes(length);
                let _ = connection.stream.try_send(&[IoSlice::new(&bytes)]);
            }
        }
    }
}
