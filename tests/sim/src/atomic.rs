//! Atomic writes of a file among other I/O, cut short at every step: the file channel, its journal and its recovery as they ship,
//! on two simulated disks.
//!
//! Every sector is told by the operation that wrote it. Operations that overlap take effect in the order in which they were
//! submitted, so what a sector may hold after a cut is what the last operation left that must have survived, or a later one. Beyond that
//! an atomic write is there with all of its sectors or with none.

mod oracle;
mod rig;

use reactor::sim::{SimRandom, SimWorld};
use reactor::time::Time;
use volume::bdev::{Extent, Op};

use crate::Violation;
use oracle::Oracle;
use rig::Rig;

/// Blocks that the operations are about: few, so that they meet.
const HOT_BLOCKS: u64 = 24;
/// The longest run of one operation.
const RUN_BLOCKS_MAX: u64 = 12;
/// Operations of one run.
const OPERATIONS: u64 = 16;
/// Steps after which a run has ended, or never will.
const STEPS_MAX: u64 = 5_000;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The process is killed.
    Kill,
    /// The power fails.
    Power,
    /// The power fails, and again while the file is opened.
    PowerTwice,
    /// The process is killed, and the power fails while the file is opened.
    KillAndPower,
}

/// A bug made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The blocks are written in place before their entry is on the medium.
    EntryNotAwaited,
    /// Blocks change again before the entry that would bring them back is gone.
    ZerosNotAwaited,
    /// The next entry takes the place of one whose blocks are not on the medium.
    PlaceNotAwaited,
    /// Opening the file completes nothing.
    NoRecovery,
    /// An atomic write goes the way of every write.
    NoJournal,
}

/// All of them.
pub const BUGS: [Bug; 5] =
    [Bug::EntryNotAwaited, Bug::ZerosNotAwaited, Bug::PlaceNotAwaited, Bug::NoRecovery, Bug::NoJournal];

/// One history: everything else follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The seed of the operations and of the disks.
    pub seed: u64,
    /// How it ends.
    pub cut: Cut,
    /// Both disks give errors until the cut.
    pub faults: bool,
    /// The bug in it.
    pub bug: Option<Bug>,
}

/// Cuts the history at each of its steps: the number of cuts, or what was wrong after one.
pub fn run(case: Case) -> Result<u64, Violation> {
    for step in 0..STEPS_MAX {
        if run_until(case, step)? {
            return Ok(step);
        }
    }
    Err(Violation::new("a history has an end", format!("{case:?}")))
}

/// One history up to `cut_step`; true when it had ended by itself before.
fn run_until(case: Case, cut_step: u64) -> Result<bool, Violation> {
    let world = SimWorld::new(case.seed);
    let mut random = SimRandom::new(case.seed ^ 0xA70_311C);
    let mut rig = Rig::new(&world, &mut random, case.bug);
    if case.faults {
        rig.spoil_disks(&mut random);
    }
    // One event of one disk is one step: what is in flight is in flight at the cut.
    world.set_auto_advance(false);
    let depth = 1 + random.below(4) as usize;
    let mut oracle = Oracle::new(rig.sectors_per_block());
    let mut left = OPERATIONS;
    let mut step = 0;
    while left > 0 || rig.in_flight() > 0 {
        if step == cut_step {
            world.set_auto_advance(true);
            let survivors = rig.cut(case.cut, &mut random)?;
            oracle.check(&survivors, case.cut != Cut::Kill, || format!("{case:?} cut at step {step}"))?;
            return Ok(false);
        }
        // The last is the flush with which a volume is closed: when everything else has ended.
        while left > 0 && rig.in_flight() < if left == 1 { 1 } else { depth } {
            left -= 1;
            let op = draw(&mut random, left);
            let (tag, value) = oracle.begin(op);
            if let Some(status) = rig.submit(tag, op, value) {
                oracle.end(tag, status, case.faults)?;
            }
        }
        for (tag, status) in rig.poll() {
            oracle.end(tag, status, case.faults)?;
        }
        if step == STEPS_MAX {
            return Err(Violation::new("everything is answered", format!("{case:?}")));
        }
        world.advance_to_next(Time::NEVER);
        step += 1;
    }
    if !case.faults {
        rig.check_closed()?;
    }
    Ok(true)
}

fn draw(random: &mut SimRandom, left: u64) -> Op {
    let length_blocks = 1 + random.below(RUN_BLOCKS_MAX);
    let extent = Extent { lba: random.below(HOT_BLOCKS - length_blocks + 1), length_blocks };
    let fua = random.below(3) == 0;
    match random.below(16) {
        _ if left == 0 => Op::Flush,
        0..7 => Op::AtomicWrite { extent, fua },
        7..11 => Op::Write { extent, fua },
        11 | 12 => Op::Unmap(extent),
        13 => Op::WriteZeroes { extent, unmap: false, fua },
        _ => Op::Flush,
    }
}
