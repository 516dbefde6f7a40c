//! Faults: what the controller does wrong, and with which commands. They match commands, never counts of calls.

use std::ops::Range;
use std::time::Duration;

use nvme_spec::{NvmOpcode, Sqe, Status};
use reactor::random::Random;
use reactor::sim::SimRandom;

use crate::limits::FAULTS_MAX;
use crate::registers::FatalUntil;

/// Which commands; what is `None` matches all. The halves of a fused operation are never struck.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandMatch {
    /// Submission queue; 0 is the admin queue.
    pub qid: Option<u16>,
    /// Any I/O queue, when true; else `qid` alone says.
    pub io: bool,
    /// Opcode.
    pub opcode: Option<u8>,
    /// Namespace.
    pub nsid: Option<u32>,
    /// The command touches one of these blocks. Matches only commands that name a range of blocks.
    pub blocks: Option<Range<u64>>,
}

impl CommandMatch {
    /// Every command of every I/O queue.
    pub fn io() -> Self {
        Self { io: true, ..Self::default() }
    }

    /// An I/O command of this kind on any queue.
    pub fn nvm(opcode: NvmOpcode) -> Self {
        Self { io: true, opcode: Some(opcode.0), ..Self::default() }
    }

    /// An admin command of this kind.
    pub fn admin(opcode: nvme_spec::AdminOpcode) -> Self {
        Self { qid: Some(0), opcode: Some(opcode.0), ..Self::default() }
    }

    /// Narrowed to commands over these blocks of a namespace.
    #[must_use]
    pub fn over(self, nsid: u32, blocks: Range<u64>) -> Self {
        Self { nsid: Some(nsid), blocks: Some(blocks), ..self }
    }

    fn matches(&self, qid: u16, sqe: &Sqe) -> bool {
        let blocks = |blocks: &Range<u64>| {
            names_blocks(qid, sqe) && {
                let end = sqe.slba().saturating_add(sqe.length_blocks().into());
                blocks.start < end && sqe.slba() < blocks.end
            }
        };
        self.qid.is_none_or(|wanted| wanted == qid)
            && (!self.io || qid != 0)
            && self.opcode.is_none_or(|opcode| opcode == sqe.opcode)
            && self.nsid.is_none_or(|nsid| nsid == sqe.nsid.get())
            && self.blocks.as_ref().is_none_or(blocks)
    }
}

fn names_blocks(qid: u16, sqe: &Sqe) -> bool {
    let opcodes =
        [NvmOpcode::READ, NvmOpcode::WRITE, NvmOpcode::COMPARE, NvmOpcode::WRITE_ZEROES, NvmOpcode::VERIFY];
    qid != 0 && opcodes.contains(&sqe.nvm_opcode())
}

/// How a command that is never completed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Abort ends it.
    UntilAborted,
    /// Abort answers that it did not end it; only a reset does.
    UntilReset,
    /// Abort answers that it did not end it, and so much later it is done and completed after all.
    LateAfterAbort(Duration),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It fails with this status and has no effect.
    Fail(Status),
    /// It is done, and fails with this status.
    DoneButFail(Status),
    /// It is done and completed so much later.
    Delay(Duration),
    /// It is not done and not completed.
    Hang(Hang),
    /// It is done, and its completion is lost. As nobody was told, a loss of power may undo or cut a write, cache or not,
    /// until a flush or somebody reads.
    DropCompletion,
    /// It is done, and completed twice.
    DuplicateCompletion,
    /// A completion of this command, which nobody sent, comes before its own.
    InventCompletion {
        /// The identifier that was never used.
        cid: u16,
    },
    /// Its completion names another submission queue.
    WrongQueue {
        /// The queue that is named.
        sqid: u16,
    },
    /// Its completion is there with the Phase Tag of the round before; the Phase Tag follows in the next step.
    LatePhase,
    /// A write is completed and not done.
    LoseWrite,
    /// A write goes so many blocks further up, if they are in the namespace.
    MisdirectWrite {
        /// Blocks.
        blocks: u64,
    },
    /// One bit of the data is turned on its way.
    CorruptData,
    /// CSTS.CFS is raised, and nothing is done.
    Fatal(FatalUntil),
    /// The function is pulled out.
    Remove,
}

/// A fault: which commands, which of those, what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which commands.
    pub on: CommandMatch,
    /// So many that match are spared first.
    pub skip: u64,
    /// So many are struck, then the fault is over; `u64::MAX` is for ever.
    pub times: u64,
    /// Of a thousand that match, so many are struck.
    pub permille: u16,
    /// What happens.
    pub action: Action,
}

impl Fault {
    /// The next command that matches.
    pub fn once(on: CommandMatch, action: Action) -> Self {
        Self { on, skip: 0, times: 1, permille: 1000, action }
    }

    /// Every command that matches.
    pub fn always(on: CommandMatch, action: Action) -> Self {
        Self { times: u64::MAX, ..Self::once(on, action) }
    }

    /// The `nth` command that matches, from 1.
    pub fn nth(on: CommandMatch, nth: u64, action: Action) -> Self {
        Self { skip: nth.saturating_sub(1), ..Self::once(on, action) }
    }

    /// By chance, so many of a thousand that match.
    pub fn sometimes(on: CommandMatch, permille: u16, action: Action) -> Self {
        Self { permille, ..Self::always(on, action) }
    }
}

/// A handle to a fault that was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(u64);

/// Why a fault was not armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {FAULTS_MAX} faults already")]
pub struct TooManyFaults;

struct Armed {
    id: FaultId,
    fault: Fault,
    hits: u64,
}

/// The faults that are armed.
#[derive(Default)]
pub(crate) struct Faults {
    armed: Vec<Armed>,
    last_id: u64,
}

impl Faults {
    pub(crate) fn arm(&mut self, fault: Fault) -> Result<FaultId, TooManyFaults> {
        // What is over and not looked at makes room.
        if self.armed.len() >= FAULTS_MAX {
            self.armed.retain(|armed| armed.hits < armed.fault.times);
        }
        if self.armed.len() >= FAULTS_MAX {
            return Err(TooManyFaults);
        }
        self.last_id += 1;
        let id = FaultId(self.last_id);
        self.armed.push(Armed { id, fault, hits: 0 });
        Ok(id)
    }

    pub(crate) fn disarm(&mut self, id: FaultId) {
        self.armed.retain(|armed| armed.id != id);
    }

    pub(crate) fn clear(&mut self) {
        self.armed.clear();
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    pub(crate) fn hits(&self, id: FaultId) -> u64 {
        self.armed.iter().find(|armed| armed.id == id).map_or(0, |armed| armed.hits)
    }

    /// What happens to this command: the first fault that strikes it.
    pub(crate) fn strike(&mut self, qid: u16, sqe: &Sqe, random: &mut SimRandom) -> Option<Action> {
        self.armed.iter_mut().find_map(|armed| {
            if armed.hits >= armed.fault.times || !armed.fault.on.matches(qid, sqe) {
                return None;
            }
            if armed.fault.skip > 0 {
                armed.fault.skip -= 1;
                return None;
            }
            if armed.fault.permille < 1000 && random.next_u64() % 1000 >= armed.fault.permille.into() {
                return None;
            }
            armed.hits += 1;
            Some(armed.fault.action)
        })
    }
}

#[cfg(test)]
mod tests {
    use nvme_spec::AdminOpcode;
    use nvme_spec::nvm::IoControl;

    use super::*;

    #[test]
    fn a_fault_strikes_the_commands_it_names_and_no_others() {
        let mut random = SimRandom::new(1);
        let read = |slba| Sqe::io(NvmOpcode::READ, 1, slba, 8, IoControl::NONE);
        let mut faults = Faults::default();
        let on = CommandMatch::nvm(NvmOpcode::READ).over(1, 10..12);
        let id = faults.arm(Fault::nth(on, 2, Action::DropCompletion)).expect("room");
        let mut strike = |qid, sqe: Sqe| faults.strike(qid, &sqe, &mut random);
        assert_eq!(strike(0, read(8)), None, "not an I/O queue");
        assert_eq!(strike(1, Sqe::io(NvmOpcode::WRITE, 1, 8, 8, IoControl::NONE)), None);
        assert_eq!(strike(1, Sqe::io(NvmOpcode::READ, 2, 8, 8, IoControl::NONE)), None);
        assert_eq!((strike(1, read(2)), strike(1, read(12))), (None, None), "beside the blocks");
        assert_eq!(strike(1, read(3)), None, "the first that matches is spared");
        assert_eq!(strike(2, read(11)), Some(Action::DropCompletion));
        assert_eq!(strike(1, read(11)), None, "it is over");
        assert_eq!(faults.hits(id), 1);
        faults.disarm(id);
        assert!(faults.is_empty());
        let on = CommandMatch::admin(AdminOpcode::IDENTIFY);
        faults.arm(Fault::always(on, Action::Fail(Status::INTERNAL_ERROR))).expect("room");
        let identify = Sqe::admin(AdminOpcode::IDENTIFY);
        assert!(faults.strike(0, &identify, &mut random).is_some());
        assert!(faults.strike(1, &identify, &mut random).is_none());
    }

    #[test]
    fn chance_strikes_about_as_often_as_it_says() {
        let mut random = SimRandom::new(3);
        let mut faults = Faults::default();
        let id = faults.arm(Fault::sometimes(CommandMatch::io(), 250, Action::LatePhase)).expect("room");
        let struck =
            (0..10_000).filter(|_| faults.strike(1, &Sqe::flush(1), &mut random).is_some()).count() as u64;
        assert_eq!(faults.hits(id), struck);
        assert!((2300..2700).contains(&faults.hits(id)), "{}", faults.hits(id));
    }

    #[test]
    fn there_is_an_end_to_faults() {
        let mut faults = Faults::default();
        let fault = Fault::once(CommandMatch::io(), Action::LatePhase);
        (0..FAULTS_MAX).for_each(|_| assert!(faults.arm(fault.clone()).is_ok()));
        assert_eq!(faults.arm(fault.clone()), Err(TooManyFaults));
        assert!(faults.strike(1, &Sqe::flush(1), &mut SimRandom::new(1)).is_some());
        assert!(faults.arm(fault).is_ok(), "one that is over makes room");
    }
}
