//! Admin commands that only a memory-based transport (PCIe) has: queues in the host's memory, and shadow doorbells (Base 5.2).

use zerocopy::little_endian::U32;

use crate::{AdminOpcode, Sqe};

/// Fields of Create I/O Completion Queue (Base 5.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateCompletionQueue {
    /// Queue Identifier.
    pub qid: u16,
    /// Entries, a true count from 1 to 65536.
    pub entries: u32,
    /// PRP Entry 1: where the queue is, or its PRP list where it is not contiguous.
    pub address: u64,
    /// Physically Contiguous.
    pub contiguous: bool,
    /// Interrupts Enabled.
    pub interrupts: bool,
    /// Interrupt Vector.
    pub vector: u16,
}

/// Dword 10 of both commands that create a queue.
fn queue_dword(qid: u16, entries: u32) -> U32 {
    assert!((1..=0x1_0000).contains(&entries), "a queue has from 1 to 65536 entries, not {entries}");
    U32::new(u32::from(qid) | (entries - 1) << 16)
}

impl CreateCompletionQueue {
    /// Reads the fields.
    pub fn of(sqe: &Sqe) -> Self {
        let (cdw10, cdw11) = (sqe.cdw10.get(), sqe.cdw11.get());
        Self {
            qid: cdw10 as u16,
            entries: (cdw10 >> 16) + 1,
            address: sqe.prp()[0].get(),
            contiguous: cdw11 & 1 != 0,
            interrupts: cdw11 & 1 << 1 != 0,
            vector: (cdw11 >> 16) as u16,
        }
    }

    /// The command.
    ///
    /// # Panics
    /// When there are no entries, or more than 65536.
    pub fn sqe(&self) -> Sqe {
        let flags = u32::from(self.contiguous) | u32::from(self.interrupts) << 1;
        let mut sqe = Sqe {
            opcode: AdminOpcode::CREATE_IO_COMPLETION_QUEUE.0,
            cdw10: queue_dword(self.qid, self.entries),
            cdw11: U32::new(flags | u32::from(self.vector) << 16),
            ..Sqe::default()
        };
        sqe.set_prp(self.address, 0);
        sqe
    }
}

/// Fields of Create I/O Submission Queue (Base 5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateSubmissionQueue {
    /// Queue Identifier.
    pub qid: u16,
    /// Entries, a true count from 1 to 65536.
    pub entries: u32,
    /// PRP Entry 1: where the queue is, or its PRP list where it is not contiguous.
    pub address: u64,
    /// Physically Contiguous.
    pub contiguous: bool,
    /// Queue Priority (2 bits), where arbitration is weighted.
    pub priority: u8,
    /// Completion Queue Identifier: where its completions go.
    pub cqid: u16,
    /// NVM Set Identifier; 0 is none.
    pub nvm_set: u16,
}

impl CreateSubmissionQueue {
    /// Reads the fields.
    pub fn of(sqe: &Sqe) -> Self {
        let (cdw10, cdw11) = (sqe.cdw10.get(), sqe.cdw11.get());
        Self {
            qid: cdw10 as u16,
            entries: (cdw10 >> 16) + 1,
            address: sqe.prp()[0].get(),
            contiguous: cdw11 & 1 != 0,
            priority: (cdw11 >> 1) as u8 & 0b11,
            cqid: (cdw11 >> 16) as u16,
            nvm_set: sqe.cdw12.get() as u16,
        }
    }

    /// The command.
    ///
    /// # Panics
    /// When there are no entries, or more than 65536.
    pub fn sqe(&self) -> Sqe {
        let flags = u32::from(self.contiguous) | u32::from(self.priority & 0b11) << 1;
        let mut sqe = Sqe {
            opcode: AdminOpcode::CREATE_IO_SUBMISSION_QUEUE.0,
            cdw10: queue_dword(self.qid, self.entries),
            cdw11: U32::new(flags | u32::from(self.cqid) << 16),
            cdw12: U32::new(u32::from(self.nvm_set)),
            ..Sqe::default()
        };
        sqe.set_prp(self.address, 0);
        sqe
    }
}

/// Fields of Doorbell Buffer Config (Base 5.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorbellBufferConfig {
    /// PRP Entry 1: the page of shadow doorbells, which the host writes.
    pub shadow: u64,
    /// PRP Entry 2: the page of event indexes, which the controller writes.
    pub event_index: u64,
}

impl DoorbellBufferConfig {
    /// Reads the fields.
    pub fn of(sqe: &Sqe) -> Self {
        let [shadow, event_index] = sqe.prp();
        Self { shadow: shadow.get(), event_index: event_index.get() }
    }

    /// The command.
    pub fn sqe(&self) -> Sqe {
        let mut sqe = Sqe::admin(AdminOpcode::DOORBELL_BUFFER_CONFIG);
        sqe.set_prp(self.shadow, self.event_index);
        sqe
    }
}

/// Offset of the tail of submission queue `qid` in the page of shadow doorbells, and of its event index in the other page;
/// `stride` is CAP.DSTRD (Base 5.2.5).
pub const fn submission_shadow(qid: u16, stride: u32) -> usize {
    2 * qid as usize * (4 << stride)
}

/// Offset of the head of completion queue `qid` in the page of shadow doorbells, and of its event index in the other page.
pub const fn completion_shadow(qid: u16, stride: u32) -> usize {
    (2 * qid as usize + 1) * (4 << stride)
}

/// Must the doorbell register be written as well? It must when the shadow doorbell moved past the event index: the step from
/// `old` to `new` includes the step that leaves `event_index` behind (Base annex B.5). All three wrap at the size of the queue,
/// so the numbers are compared as the 16-bit ones they are written as.
pub const fn doorbell_is_due(event_index: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event_index).wrapping_sub(1) < new.wrapping_sub(old)
}

impl Sqe {
    /// Delete I/O Submission Queue (Base 5.2.4).
    pub fn delete_submission_queue(qid: u16) -> Self {
        let opcode = AdminOpcode::DELETE_IO_SUBMISSION_QUEUE;
        Self { cdw10: U32::new(u32::from(qid)), ..Self::admin(opcode) }
    }

    /// Delete I/O Completion Queue (Base 5.2.3).
    pub fn delete_completion_queue(qid: u16) -> Self {
        let opcode = AdminOpcode::DELETE_IO_COMPLETION_QUEUE;
        Self { cdw10: U32::new(u32::from(qid)), ..Self::admin(opcode) }
    }

    /// The queue that a Create or a Delete means: bits 15:0 of dword 10.
    pub fn queue_id(&self) -> u16 {
        self.cdw10.get() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_commands_round_trip() {
        let cq = CreateCompletionQueue {
            qid: 7,
            entries: 0x1_0000,
            address: 0x1234_5000,
            contiguous: true,
            interrupts: true,
            vector: 9,
        };
        let sqe = cq.sqe();
        assert_eq!((sqe.opcode, sqe.cdw10.get(), sqe.cdw11.get()), (0x05, 0xffff_0007, 0x0009_0003));
        assert_eq!((CreateCompletionQueue::of(&sqe), sqe.queue_id()), (cq, 7));
        let sq = CreateSubmissionQueue {
            qid: 3,
            entries: 2,
            address: 0xf000,
            contiguous: true,
            priority: 2,
            cqid: 7,
            nvm_set: 1,
        };
        let sqe = sq.sqe();
        assert_eq!((sqe.opcode, sqe.cdw10.get(), sqe.cdw11.get()), (0x01, 0x0001_0003, 0x0007_0005));
        assert_eq!(CreateSubmissionQueue::of(&sqe), sq);
        assert_eq!(Sqe::delete_submission_queue(3).opcode, 0x00);
        assert_eq!(Sqe::delete_completion_queue(3).queue_id(), 3);
        let buffers = DoorbellBufferConfig { shadow: 0x1000, event_index: 0x2000 };
        assert_eq!(DoorbellBufferConfig::of(&buffers.sqe()), buffers);
    }

    #[test]
    fn the_doorbell_is_due_when_the_event_index_was_passed() {
        assert!(doorbell_is_due(0, 1, 0), "the first step leaves 0 behind");
        assert!(!doorbell_is_due(5, 3, 1), "not yet there");
        assert!(!doorbell_is_due(5, 5, 3), "reached is not passed");
        assert!(doorbell_is_due(5, 6, 5) && doorbell_is_due(5, 9, 2));
        assert!(doorbell_is_due(6, 1, 5), "over the wrap");
        assert!(!doorbell_is_due(3, 1, 5), "the wrap does not reach it");
    }

    #[test]
    fn shadows_alternate_like_doorbells() {
        assert_eq!((submission_shadow(1, 0), completion_shadow(1, 0)), (8, 12));
        assert_eq!((submission_shadow(2, 2), completion_shadow(2, 2)), (64, 80));
    }
}
