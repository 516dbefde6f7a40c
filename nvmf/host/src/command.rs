//! From block operations to commands, and from statuses back.

use nvme_spec::nvm::{COMMAND_BLOCKS_MAX, IoControl};
use nvme_spec::status::StatusCodeType;
use nvme_spec::{NvmOpcode, Sqe, Status};
use volume::bdev::{Extent, IoStatus, Op};

/// What matters about a command when it must be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes data from the namespace.
    Read,
    /// Brings data.
    Write,
    /// Changes blocks without data.
    Zero,
    /// Changes no block.
    Flush,
    /// Brings data that must be there.
    Compare,
    /// Brings what must be there and what shall be there: two commands.
    CompareAndWrite,
}

impl Kind {
    /// True when a second execution, after others have written, would do harm.
    pub fn changes_blocks(self) -> bool {
        matches!(self, Self::Write | Self::Zero | Self::CompareAndWrite)
    }

    /// Commands that it stands for, next to one another in one queue.
    #[inline]
    pub fn commands(self) -> usize {
        if self == Self::CompareAndWrite { 2 } else { 1 }
    }

    /// The status of one that failed for good.
    pub fn failure(self, lba: u64) -> IoStatus {
        match self {
            Self::Read | Self::Compare => IoStatus::ReadError { lba },
            Self::Write | Self::Zero | Self::CompareAndWrite => IoStatus::WriteError { lba },
            Self::Flush => IoStatus::Gone,
        }
    }
}

/// Kind and control bits of an operation; `None` for those that a remote namespace does not answer itself.
pub fn plan(op: &Op, deallocates: bool) -> Option<(Kind, NvmOpcode, IoControl)> {
    let fua = |fua: bool| if fua { IoControl::FORCE_UNIT_ACCESS } else { IoControl::NONE };
    let deallocate =
        |wanted: bool| if wanted && deallocates { IoControl::DEALLOCATE } else { IoControl::NONE };
    match *op {
        Op::Read(_) => Some((Kind::Read, NvmOpcode::READ, IoControl::NONE)),
        Op::Write { fua: force, .. } | Op::AtomicWrite { fua: force, .. } => {
            Some((Kind::Write, NvmOpcode::WRITE, fua(force)))
        }
        // Deallocating by Dataset Management is a hint that may be ignored; the blocks must read zeros afterwards.
        Op::Unmap(_) => Some((Kind::Zero, NvmOpcode::WRITE_ZEROES, deallocate(true))),
        Op::WriteZeroes { unmap, fua: force, .. } => {
            Some((Kind::Zero, NvmOpcode::WRITE_ZEROES, fua(force).with(deallocate(unmap))))
        }
        Op::Flush => Some((Kind::Flush, NvmOpcode::FLUSH, IoControl::NONE)),
        Op::Compare(_) => Some((Kind::Compare, NvmOpcode::COMPARE, IoControl::NONE)),
        // The second of the two; the first follows from it.
        Op::CompareAndWrite { fua: force, .. } => Some((Kind::CompareAndWrite, NvmOpcode::WRITE, fua(force))),
        Op::OrWrite { .. } | Op::BlockStatus(_) => None,
    }
}

/// The command for a run of blocks.
pub fn command(opcode: NvmOpcode, nsid: u32, extent: Extent, control: IoControl) -> Sqe {
    if opcode == NvmOpcode::FLUSH {
        return Sqe::flush(nsid);
    }
    let length_blocks = u32::try_from(extent.length_blocks).expect("an I/O is cut into commands");
    Sqe::io(opcode, nsid, extent.lba, length_blocks, control)
}

/// The longest run of blocks of one command.
pub fn blocks_max(transfer_bytes_max: u64, block_bytes: u32, kind: Kind) -> u64 {
    match kind {
        Kind::Read | Kind::Write | Kind::Compare | Kind::CompareAndWrite => {
            (transfer_bytes_max / u64::from(block_bytes)).min(COMMAND_BLOCKS_MAX.into())
        }
        Kind::Zero | Kind::Flush => COMMAND_BLOCKS_MAX.into(),
    }
}

/// What a status means for the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is over.
    Done(IoStatus),
    /// The controller did not execute it and may do so later.
    Retry,
    /// The controller did not execute it and cannot on this path now.
    OtherPath,
}

/// Judges a status. A completion came, so the controller is through with the command: sending it again does no harm.
pub fn judge(status: Status, kind: Kind, lba: u64) -> Verdict {
    if status.is_success() {
        return Verdict::Done(IoStatus::Good);
    }
    let failed = kind.failure(lba);
    match status.code() {
        // The first byte that differs is not told.
        Status::COMPARE_FAILURE if matches!(kind, Kind::Compare | Kind::CompareAndWrite) => {
            return Verdict::Done(IoStatus::Miscompare { offset_bytes: 0 });
        }
        Status::CAPACITY_EXCEEDED => return Verdict::Done(IoStatus::NoSpace),
        Status::UNRECOVERED_READ_ERROR if kind == Kind::CompareAndWrite => {
            return Verdict::Done(IoStatus::ReadError { lba });
        }
        Status::UNRECOVERED_READ_ERROR => return Verdict::Done(failed),
        // The namespace is not there (any more): another path may have it.
        Status::INVALID_NAMESPACE_OR_FORMAT => return Verdict::OtherPath,
        _ => {}
    }
    if status.status_code_type() == StatusCodeType::PATH {
        return Verdict::OtherPath;
    }
    let is_passing = matches!(
        status.code(),
        Status::NAMESPACE_NOT_READY
            | Status::COMMAND_INTERRUPTED
            | Status::TRANSIENT_TRANSPORT_ERROR
            | Status::ABORT_REQUESTED
            | Status::ABORTED_SQ_DELETION
            | Status::ABORTED_MISSING_FUSED
            | Status::DATA_TRANSFER_ERROR
            | Status::COMMAND_ID_CONFLICT
    );
    if is_passing && !status.dnr() { Verdict::Retry } else { Verdict::Done(failed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapping_leaves_zeros_whether_or_not_blocks_are_freed() {
        let extent = Extent { lba: 8, length_blocks: 4 };
        let (kind, opcode, control) = plan(&Op::Unmap(extent), true).unwrap();
        assert_eq!((kind, opcode, control), (Kind::Zero, NvmOpcode::WRITE_ZEROES, IoControl::DEALLOCATE));
        assert_eq!(plan(&Op::Unmap(extent), false).unwrap().2, IoControl::NONE);
        let zeroes = Op::WriteZeroes { extent, unmap: false, fua: true };
        assert_eq!(plan(&zeroes, true).unwrap().2, IoControl::FORCE_UNIT_ACCESS);
        assert!(plan(&Op::OrWrite { extent, fua: false }, true).is_none());
    }

    #[test]
    fn statuses_are_judged_by_what_may_still_happen() {
        let read = |status| judge(status, Kind::Read, 7);
        assert_eq!(read(Status::SUCCESS), Verdict::Done(IoStatus::Good));
        assert_eq!(read(Status::UNRECOVERED_READ_ERROR), Verdict::Done(IoStatus::ReadError { lba: 7 }));
        assert_eq!(read(Status::ANA_INACCESSIBLE), Verdict::OtherPath);
        assert_eq!(read(Status::ANA_TRANSITION.with_dnr()), Verdict::OtherPath);
        assert_eq!(read(Status::COMMAND_INTERRUPTED), Verdict::Retry);
        assert_eq!(
            read(Status::COMMAND_INTERRUPTED.with_dnr()),
            Verdict::Done(IoStatus::ReadError { lba: 7 })
        );
        assert_eq!(judge(Status::CAPACITY_EXCEEDED, Kind::Write, 7), Verdict::Done(IoStatus::NoSpace));
        assert_eq!(
            judge(Status::RESERVATION_CONFLICT, Kind::Write, 7),
            Verdict::Done(IoStatus::WriteError { lba: 7 })
        );
        assert_eq!(judge(Status::new(7, 1), Kind::Flush, 0), Verdict::Done(IoStatus::Gone));
    }
}
