//! Completion Queue Entry (Base 3.3.3.2).

use zerocopy::little_endian::{U16, U32, U64};

use crate::Status;

wire! {
    /// A Completion Queue Entry.
    pub struct Cqe[16] {
        /// Dword 0: command specific result.
        pub dw0: U32,
        /// Dword 1: command specific result.
        pub dw1: U32,
        /// Submission Queue Head Pointer; FFFFh on a Fabrics queue without flow control.
        pub sqhd: U16,
        /// Submission Queue Identifier; reserved on Fabrics.
        pub sqid: U16,
        /// Identifier of the command that this completes.
        pub cid: U16,
        /// Phase Tag in bit 0 (reserved on Fabrics), status in bits 15:1.
        pub status_and_phase: U16,
    }
}

impl Cqe {
    /// The completion of `cid` with `status`; the rest is zero.
    pub fn new(cid: u16, status: Status) -> Self {
        let mut cqe = Self { cid: U16::new(cid), ..Self::default() };
        cqe.set_status(status);
        cqe
    }

    /// The status.
    pub fn status(&self) -> Status {
        Status::from_bits(self.status_and_phase.get() >> 1)
    }

    /// Sets the status and leaves the phase.
    pub fn set_status(&mut self, status: Status) {
        let phase = self.status_and_phase.get() & 1;
        self.status_and_phase = U16::new(status.bits() << 1 | phase);
    }

    /// The Phase Tag.
    pub fn phase(&self) -> bool {
        self.status_and_phase.get() & 1 != 0
    }

    /// Sets the Phase Tag and leaves the status.
    pub fn set_phase(&mut self, phase: bool) {
        self.status_and_phase = U16::new(self.status_and_phase.get() & !1 | u16::from(phase));
    }

    /// Dwords 0 and 1 as one number (Property Get).
    pub fn result64(&self) -> u64 {
        u64::from(self.dw0.get()) | u64::from(self.dw1.get()) << 32
    }

    /// Sets dwords 0 and 1 as one number.
    pub fn set_result64(&mut self, value: u64) {
        let [low, high]: [U32; 2] = zerocopy::transmute!(U64::new(value));
        (self.dw0, self.dw1) = (low, high);
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn status_and_phase_share_a_word() {
        assert_eq!(offset_of!(Cqe, cid), 12);
        let mut cqe = Cqe::new(7, Status::LBA_OUT_OF_RANGE.with_dnr());
        assert_eq!(cqe.as_bytes()[12..], [7, 0, 0x00, 0x81]);
        cqe.set_phase(true);
        assert!(cqe.phase() && cqe.status().dnr());
        cqe.set_status(Status::SUCCESS);
        assert!(cqe.phase() && cqe.status().is_success());
        cqe.set_result64(0x0123_4567_89ab_cdef);
        assert_eq!(cqe.result64(), 0x0123_4567_89ab_cdef);
        assert_eq!(cqe.dw0.get(), 0x89ab_cdef);
    }
}
