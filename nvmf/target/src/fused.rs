//! Fused Compare and Write: which two commands of a submission queue belong together (NVM, section 3.2.2).
//!
//! Commands are paired in the order in which their capsules come, which is the order of the queue; their data may
//! come later and in any order. So a pair is made up when the second capsule comes and runs when the last data is
//! there. Fused commands are rare (a cluster's heartbeat), so a short list is searched.

use nvme_spec::sqe::Fuse;
use nvme_spec::{NvmOpcode, Sqe, Status};

/// Where a fused command stands.
#[derive(Debug)]
struct Half<T> {
    cid: u16,
    /// The command with its data, once that has come.
    arrived: Option<T>,
}

#[derive(Debug)]
enum Entry<T> {
    /// Waits for the next capsule of the queue.
    Alone(Half<T>, Sqe),
    /// Both are known.
    Pair { first: Half<T>, second: Half<T> },
    /// Ends with this status when its data has come.
    Failed(u16, Status),
}

/// What is to be done about fused commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<T> {
    /// Nothing now.
    Wait,
    /// Both are there: compare the data of the first, then write that of the second.
    Run { first: T, second: T },
    /// The command ends with a status.
    Fail(T, Status),
}

/// The fused commands of one queue.
#[derive(Debug)]
pub(crate) struct Fused<T> {
    entries: Vec<Entry<T>>,
}

impl<T> Default for Fused<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Fused<T> {
    /// True when capsules need not be looked at unless they are fused themselves.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }

    /// A capsule has come. What fails because of it and has its data already is returned.
    pub fn on_capsule(&mut self, sqe: &Sqe) -> Option<(T, Status)> {
        let cid = sqe.cid.get();
        let alone = self.entries.iter().position(|entry| matches!(entry, Entry::Alone(..)));
        match (sqe.fuse(), alone) {
            (Fuse::NORMAL, None) => None,
            (Fuse::SECOND, Some(at)) => {
                let Entry::Alone(first, compare) = self.entries.swap_remove(at) else {
                    unreachable!("found as such")
                };
                if !fits(&compare, sqe) {
                    self.entries.push(Entry::Failed(cid, Status::INVALID_FIELD.with_dnr()));
                    return self.fail(first, Status::INVALID_FIELD.with_dnr());
                }
                let second = Half { cid, arrived: None };
                self.entries.push(Entry::Pair { first, second });
                None
            }
            (fuse, alone) => {
                let failed = alone.and_then(|at| {
                    let Entry::Alone(first, _) = self.entries.swap_remove(at) else {
                        unreachable!("found as such")
                    };
                    self.fail(first, Status::ABORTED_MISSING_FUSED)
                });
                match fuse {
                    Fuse::NORMAL => {}
                    Fuse::FIRST => self.entries.push(Entry::Alone(Half { cid, arrived: None }, *sqe)),
                    Fuse::SECOND => self.entries.push(Entry::Failed(cid, Status::ABORTED_MISSING_FUSED)),
                    _ => self.entries.push(Entry::Failed(cid, Status::INVALID_FIELD.with_dnr())),
                }
                failed
            }
        }
    }

    fn fail(&mut self, half: Half<T>, status: Status) -> Option<(T, Status)> {
        if half.arrived.is_none() {
            self.entries.push(Entry::Failed(half.cid, status));
        }
        half.arrived.map(|command| (command, status))
    }

    /// A fused command is there with its data.
    pub fn on_command(&mut self, cid: u16, command: T) -> Verdict<T> {
        let found = self.entries.iter().position(|entry| match entry {
            Entry::Alone(half, _) => half.cid == cid,
            Entry::Pair { first, second } => first.cid == cid || second.cid == cid,
            Entry::Failed(failed, _) => *failed == cid,
        });
        // Its capsule came before the queue was one for I/O: it has no place in the order.
        let Some(at) = found else { return Verdict::Fail(command, Status::ABORTED_MISSING_FUSED) };
        match &mut self.entries[at] {
            Entry::Alone(half, _) => half.arrived = Some(command),
            Entry::Failed(_, status) => {
                let status = *status;
                self.entries.swap_remove(at);
                return Verdict::Fail(command, status);
            }
            Entry::Pair { first, second } => {
                let half = if first.cid == cid { first } else { second };
                half.arrived = Some(command);
            }
        }
        let complete = |entry: &Entry<T>| match entry {
            Entry::Pair { first, second } => first.arrived.is_some() && second.arrived.is_some(),
            _ => false,
        };
        if !complete(&self.entries[at]) {
            return Verdict::Wait;
        }
        let Entry::Pair { first, second } = self.entries.swap_remove(at) else {
            unreachable!("checked above")
        };
        match (first.arrived, second.arrived) {
            (Some(first), Some(second)) => Verdict::Run { first, second },
            _ => unreachable!("checked above"),
        }
    }

    /// A command of the queue ended before it had all its data; its partner, if it is there, is returned.
    pub fn on_lost(&mut self, cid: u16) -> Option<(T, Status)> {
        let at = self.entries.iter().position(|entry| match entry {
            Entry::Alone(half, _) => half.cid == cid,
            Entry::Pair { first, second } => first.cid == cid || second.cid == cid,
            Entry::Failed(failed, _) => *failed == cid,
        })?;
        match self.entries.swap_remove(at) {
            Entry::Alone(..) | Entry::Failed(..) => None,
            Entry::Pair { first, second } => {
                let partner = if first.cid == cid { second } else { first };
                self.fail(partner, Status::ABORTED_FAILED_FUSED)
            }
        }
    }
}

/// Compare and then Write of the same blocks of the same namespace.
fn fits(first: &Sqe, second: &Sqe) -> bool {
    first.nvm_opcode() == NvmOpcode::COMPARE
        && second.nvm_opcode() == NvmOpcode::WRITE
        && first.nsid == second.nsid
        && first.slba() == second.slba()
        && first.length_blocks() == second.length_blocks()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::nvm::IoControl;
    use zerocopy::little_endian::U16;

    fn sqe(cid: u16, opcode: NvmOpcode, slba: u64, fuse: Fuse) -> Sqe {
        let mut sqe = Sqe::io(opcode, 1, slba, 1, IoControl::NONE);
        sqe.cid = U16::new(cid);
        sqe.set_fuse(fuse);
        sqe
    }

    fn compare(cid: u16) -> Sqe {
        sqe(cid, NvmOpcode::COMPARE, 8, Fuse::FIRST)
    }

    fn write(cid: u16) -> Sqe {
        sqe(cid, NvmOpcode::WRITE, 8, Fuse::SECOND)
    }

    #[test]
    fn a_pair_runs_when_the_last_data_has_come_in_either_order() {
        for order in [[1, 2], [2, 1]] {
            let mut fused = Fused::default();
            assert_eq!(fused.on_capsule(&compare(1)), None);
            assert_eq!(fused.on_capsule(&write(2)), None);
            assert_eq!(fused.on_command(order[0], order[0]), Verdict::Wait);
            assert_eq!(fused.on_command(order[1], order[1]), Verdict::Run { first: 1, second: 2 });
            assert!(fused.is_idle());
        }
    }

    #[test]
    fn a_first_without_its_second_is_aborted() {
        let missing = Status::ABORTED_MISSING_FUSED;
        // With its data, and before it.
        let mut fused = Fused::default();
        fused.on_capsule(&compare(1));
        assert_eq!(fused.on_command(1, 1), Verdict::Wait);
        let next = sqe(2, NvmOpcode::READ, 0, Fuse::NORMAL);
        assert_eq!(fused.on_capsule(&next), Some((1, missing)));
        assert!(fused.is_idle());
        fused.on_capsule(&compare(1));
        assert_eq!(fused.on_capsule(&compare(3)), None);
        assert_eq!(fused.on_command(1, 1), Verdict::Fail(1, missing));
        assert_eq!(fused.on_capsule(&write(4)), None);
        assert_eq!(fused.on_command(4, 4), Verdict::Wait);
        assert_eq!(fused.on_command(3, 3), Verdict::Run { first: 3, second: 4 });
    }

    #[test]
    fn a_second_without_its_first_is_aborted() {
        let mut fused = Fused::default();
        fused.on_capsule(&write(2));
        assert_eq!(fused.on_command(2, 2), Verdict::Fail(2, Status::ABORTED_MISSING_FUSED));
        assert!(fused.is_idle());
    }

    #[test]
    fn two_that_do_not_fit_are_invalid() {
        let invalid = Status::INVALID_FIELD.with_dnr();
        let others = [
            sqe(2, NvmOpcode::WRITE, 9, Fuse::SECOND),
            sqe(2, NvmOpcode::READ, 8, Fuse::SECOND),
            sqe(2, NvmOpcode::WRITE, 8, Fuse(3)),
        ];
        for second in &others[..2] {
            let mut fused = Fused::default();
            fused.on_capsule(&compare(1));
            assert_eq!(fused.on_command(1, 1), Verdict::Wait);
            assert_eq!(fused.on_capsule(second), Some((1, invalid)));
            assert_eq!(fused.on_command(2, 2), Verdict::Fail(2, invalid));
        }
        let mut fused = Fused::default();
        fused.on_capsule(&others[2]);
        assert_eq!(fused.on_command(2, 2), Verdict::Fail(2, invalid));
    }

    #[test]
    fn a_half_that_is_lost_fails_the_other() {
        let mut fused = Fused::default();
        fused.on_capsule(&compare(1));
        fused.on_capsule(&write(2));
        assert_eq!(fused.on_command(1, 1), Verdict::Wait);
        assert_eq!(fused.on_lost(2), Some((1, Status::ABORTED_FAILED_FUSED)));
        assert!(fused.is_idle());
        fused.on_capsule(&compare(1));
        fused.on_capsule(&write(2));
        assert_eq!(fused.on_lost(1), None);
        assert_eq!(fused.on_command(2, 2), Verdict::Fail(2, Status::ABORTED_FAILED_FUSED));
        assert_eq!(fused.on_lost(9), None);
    }
}
