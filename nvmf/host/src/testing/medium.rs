//! What I/O commands do to the blocks, and which two of them are one.

use nvme_spec::sqe::Fuse;
use nvme_spec::{Cqe, NvmOpcode, Sqe, Status};
use nvmf_proto::CommandId;

use super::port::Port;
use crate::data::Data;

/// A command with its data, or the two of a fused operation.
pub(super) type Work = Vec<(CommandId, Sqe, Vec<u8>)>;

/// The fused commands of one queue.
#[derive(Default)]
pub(super) struct Pairing {
    /// The last capsule was this first command.
    first: Option<Sqe>,
    /// Halves whose data has come.
    halves: Work,
}

impl Pairing {
    /// Capsules come in the order of the queue: the second command stands right behind the first.
    pub(super) fn on_capsule(&mut self, sqe: &Sqe) {
        match (self.first.take(), sqe.fuse()) {
            (None, Fuse::NORMAL) => {}
            (None, Fuse::FIRST) => self.first = Some(*sqe),
            (Some(first), Fuse::SECOND) => {
                assert_eq!(place(&first), place(sqe), "both name the same blocks");
                assert_eq!((first.nvm_opcode(), sqe.nvm_opcode()), (NvmOpcode::COMPARE, NvmOpcode::WRITE));
            }
            (first, fuse) => panic!("{fuse:?} after {first:?}"),
        }
    }

    /// What is to be carried out now that this command is there with its data.
    pub(super) fn join(&mut self, command: (CommandId, Sqe, Vec<u8>)) -> Option<Work> {
        let sqe = command.1;
        if sqe.fuse() == Fuse::NORMAL {
            return Some(vec![command]);
        }
        let fits = |(_, other, _): &(CommandId, Sqe, Vec<u8>)| {
            place(other) == place(&sqe) && other.fuse() != sqe.fuse()
        };
        let Some(at) = self.halves.iter().position(fits) else {
            self.halves.push(command);
            return None;
        };
        let other = self.halves.remove(at);
        Some(if sqe.fuse() == Fuse::SECOND { vec![other, command] } else { vec![command, other] })
    }
}

fn place(sqe: &Sqe) -> (u32, u64, u32) {
    (sqe.nsid.get(), sqe.slba(), sqe.length_blocks())
}

impl Port {
    /// Carries out the work, also when nobody is there any more to be told.
    pub(super) fn execute(&mut self, index: usize, work: Work) {
        let mut statuses = Vec::new();
        for (_, sqe, data) in &work {
            let failed = statuses.iter().any(|status: &Status| !status.is_success());
            let status = if failed { Status::ABORTED_FAILED_FUSED } else { self.status_of(sqe, data) };
            statuses.push(status);
        }
        for (at, (id, sqe, _)) in work.into_iter().enumerate() {
            if at == 1 && self.script.holds_second {
                continue;
            }
            let cqe = Cqe::new(0, statuses[at]);
            let read = (sqe.nvm_opcode() == NvmOpcode::READ).then(|| self.blocks(&sqe));
            let Some(connection) = &mut self.connections[index] else { return };
            match read {
                Some(bytes) => connection.queue.complete_read(id, cqe, Data::Heap(bytes)),
                None => connection.queue.complete(id, cqe),
            };
        }
    }

    /// The first command fails with this, and the second of a pair with it.
    pub(super) fn fail(&mut self, index: usize, work: &Work, status: Status) {
        let statuses = [status, Status::ABORTED_FAILED_FUSED];
        for ((id, ..), status) in work.iter().zip(statuses) {
            self.answer(index, *id, Cqe::new(0, status));
        }
    }

    fn range(&self, sqe: &Sqe) -> std::ops::Range<usize> {
        let shared = self.shared.borrow();
        let block_bytes = u64::from(shared.block_bytes);
        let from = sqe.slba() * block_bytes;
        let to = from + u64::from(sqe.length_blocks()) * block_bytes;
        assert!(to <= shared.media.len() as u64, "the host stays on the namespace");
        from as usize..to as usize
    }

    fn blocks(&self, sqe: &Sqe) -> Vec<u8> {
        self.shared.borrow().media[self.range(sqe)].to_vec()
    }

    /// Does what the command says; a read is none of its business.
    fn status_of(&mut self, sqe: &Sqe, data: &[u8]) -> Status {
        match sqe.nvm_opcode() {
            NvmOpcode::READ | NvmOpcode::FLUSH => {}
            NvmOpcode::COMPARE => {
                assert!(!self.script.no_compare, "the host knows that it is not offered");
                if self.script.lies_about_compare || self.blocks(sqe) != data {
                    return Status::COMPARE_FAILURE;
                }
            }
            NvmOpcode::WRITE => {
                let range = self.range(sqe);
                self.shared.borrow_mut().media[range].copy_from_slice(data);
            }
            NvmOpcode::WRITE_ZEROES => {
                let range = self.range(sqe);
                self.shared.borrow_mut().media[range].fill(0);
            }
            other => panic!("an opcode that the host does not use: {other:?}"),
        }
        Status::SUCCESS
    }
}
