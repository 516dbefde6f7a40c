//! Compare and Write as one fused operation: two commands that stand behind one another in one queue, and one outcome (NVM 3.2.2).
//!
//! A second execution of the pair would not find what the first one compared with, so it is sent again only when the first was
//! certainly not carried out.

use std::rc::Rc;

use nvme_spec::nvm::IoControl;
use nvme_spec::sqe::Fuse;
use nvme_spec::{NvmOpcode, Sqe, Status};
use reactor::buffer::Sgl;
use volume::bdev::IoStatus;

use crate::command::{Kind, Verdict, judge};
use crate::data::Data;

/// Which of the two commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Compare,
    Write,
}

/// What became of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    InFlight,
    Answered(Status),
    /// Its queue ended; `sent` when the controller may have seen it.
    Lost {
        sent: bool,
    },
}

/// What became of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As with a single command that was answered.
    Judged(Verdict),
    /// It was not carried out and never will be.
    NeverDone,
    /// It may be carried out, or have been.
    InDoubt,
}

/// A pair in flight, with the data of both.
#[derive(Debug)]
pub struct Pair {
    data: Rc<Sgl>,
    compare: Half,
    write: Half,
}

/// Both commands; `write` is the second.
pub fn commands(write: &Sqe) -> [Sqe; 2] {
    let mut compare =
        Sqe::io(NvmOpcode::COMPARE, write.nsid.get(), write.slba(), write.length_blocks(), IoControl::NONE);
    compare.set_fuse(Fuse::FIRST);
    let mut write = *write;
    write.set_fuse(Fuse::SECOND);
    [compare, write]
}

impl Pair {
    /// `data` is what must be there, then what shall be there. Also the data of each command.
    pub fn new(data: Sgl) -> (Self, [Data; 2]) {
        let data = Rc::new(data);
        let length_bytes = data.len() / 2;
        let half = |offset_bytes| Data::Part { all: Rc::clone(&data), offset_bytes, length_bytes };
        let halves = [half(0), half(length_bytes)];
        (Self { data, compare: Half::InFlight, write: Half::InFlight }, halves)
    }

    /// The data, once both commands have given theirs back.
    pub fn into_data(self) -> Sgl {
        Rc::try_unwrap(self.data).expect("both commands gave their part back")
    }

    /// One of the commands is over. The outcome, when both are.
    pub fn note(&mut self, which: Which, half: Half, lba: u64) -> Option<Outcome> {
        match which {
            Which::Compare => self.compare = half,
            Which::Write => self.write = half,
        }
        let judged = |status| Outcome::Judged(judge(status, Kind::CompareAndWrite, lba));
        // It compares unequal and writes: nothing that is said about these blocks is to be believed.
        let lie = Outcome::Judged(Verdict::Done(IoStatus::WriteError { lba }));
        Some(match (self.compare, self.write) {
            (Half::InFlight, _) | (_, Half::InFlight) => return None,
            (_, Half::Lost { sent: false }) => Outcome::NeverDone,
            (Half::Lost { .. }, Half::Lost { sent: true }) => Outcome::InDoubt,
            (Half::Answered(compare), Half::Lost { sent: true }) if compare.is_success() => Outcome::InDoubt,
            (Half::Answered(compare), Half::Lost { sent: true }) => judged(compare),
            (Half::Lost { .. }, Half::Answered(write)) => match write.code() {
                Status::ABORTED_FAILED_FUSED | Status::ABORTED_MISSING_FUSED => Outcome::NeverDone,
                _ => judged(write),
            },
            (Half::Answered(compare), Half::Answered(write)) => {
                // Whose own fault it was says why.
                let is_write = compare.is_success() || compare.code() == Status::ABORTED_FAILED_FUSED;
                match (is_write, write.is_success()) {
                    (true, false) => judged(write),
                    (false, false) => judged(compare),
                    (_, true) if compare.is_success() => judged(write),
                    (_, true) => lie,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUCCESS: Half = Half::Answered(Status::SUCCESS);

    fn outcome(compare: Half, write: Half) -> Option<Outcome> {
        let (mut pair, _) = Pair::new(Sgl::empty());
        let alone = pair.note(Which::Compare, compare, 7);
        assert_eq!(alone, None, "one command alone decides nothing");
        pair.note(Which::Write, write, 7)
    }

    fn done(status: IoStatus) -> Option<Outcome> {
        Some(Outcome::Judged(Verdict::Done(status)))
    }

    #[test]
    fn two_answers_make_one() {
        let answered = Half::Answered;
        assert_eq!(outcome(SUCCESS, SUCCESS), done(IoStatus::Good));
        let differs = IoStatus::Miscompare { offset_bytes: 0 };
        let failed = answered(Status::ABORTED_FAILED_FUSED);
        assert_eq!(outcome(answered(Status::COMPARE_FAILURE), failed), done(differs));
        assert_eq!(outcome(answered(Status::COMPARE_FAILURE.with_dnr()), failed), done(differs));
        let unreadable = answered(Status::UNRECOVERED_READ_ERROR);
        assert_eq!(outcome(unreadable, failed), done(IoStatus::ReadError { lba: 7 }));
        let no_space = answered(Status::CAPACITY_EXCEEDED);
        assert_eq!(outcome(SUCCESS, no_space), done(IoStatus::NoSpace));
        assert_eq!(outcome(failed, no_space), done(IoStatus::NoSpace), "the write was at fault");
        let lie = done(IoStatus::WriteError { lba: 7 });
        assert_eq!(outcome(answered(Status::COMPARE_FAILURE), SUCCESS), lie);
        for status in [Status::ABORTED_MISSING_FUSED, Status::COMMAND_INTERRUPTED] {
            assert_eq!(outcome(answered(status), answered(status)), Some(Outcome::Judged(Verdict::Retry)));
        }
        let moved = answered(Status::ANA_INACCESSIBLE);
        assert_eq!(outcome(moved, moved), Some(Outcome::Judged(Verdict::OtherPath)));
    }

    #[test]
    fn a_pair_is_sent_again_only_when_it_was_certainly_not_carried_out() {
        let lost = |sent| Half::Lost { sent };
        for compare in [lost(false), lost(true), SUCCESS] {
            assert_eq!(outcome(compare, lost(false)), Some(Outcome::NeverDone));
        }
        for compare in [lost(true), SUCCESS] {
            assert_eq!(outcome(compare, lost(true)), Some(Outcome::InDoubt));
        }
        let differs = Half::Answered(Status::COMPARE_FAILURE);
        assert_eq!(outcome(differs, lost(true)), done(IoStatus::Miscompare { offset_bytes: 0 }));
        assert_eq!(outcome(lost(true), SUCCESS), done(IoStatus::Good));
        let failed = Half::Answered(Status::ABORTED_FAILED_FUSED);
        assert_eq!(outcome(lost(true), failed), Some(Outcome::NeverDone));
    }

    #[test]
    fn both_commands_name_the_same_blocks_and_stand_in_order() {
        let write = Sqe::io(NvmOpcode::WRITE, 3, 1 << 40, 9, IoControl::FORCE_UNIT_ACCESS);
        let [first, second] = commands(&write);
        assert_eq!((first.fuse(), second.fuse()), (Fuse::FIRST, Fuse::SECOND));
        assert_eq!((first.nvm_opcode(), second.nvm_opcode()), (NvmOpcode::COMPARE, NvmOpcode::WRITE));
        assert_eq!((first.nsid, first.slba(), first.length_blocks()), (write.nsid, 1 << 40, 9));
        assert_eq!((second.slba(), second.io_control()), (1 << 40, IoControl::FORCE_UNIT_ACCESS));
    }
}
