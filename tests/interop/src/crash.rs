//! kill -9, again and again, with a verifier that keeps its own log of what was acknowledged.

use std::collections::{HashMap, HashSet};

use harness::ledger::{Extent, Ledger, ZEROS};
use initiator::scsi::{self, status};
use initiator::{Command, Completion, Session, WireError};

use crate::failure::{Context, Outcome, ensure, fail};
use crate::limits;
use crate::options::Options;
use crate::qemu;
use crate::report::Report;
use crate::seed::Seed;
use crate::server::{Offer, Server, Unit};

const DEPTH: usize = 32;
const BLOCKS_PER_IO_MAX: u64 = 16;
const HOT_BLOCKS: u64 = 2048;
const READ_BLOCKS: u32 = 128;

/// Runs the suite.
pub fn run(report: &mut Report, options: &Options) {
    let rounds = if options.quick { 5 } else { limits::CRASH_ROUNDS };
    let seed = options.seed;
    for (name, unit) in [("blocks_512", Unit::file(64)), ("blocks_4k", Unit::file(64).with_4k_blocks())] {
        report.check(name, || kill_loop(options, unit, rounds.div_ceil(2)).context(&format!("seed {seed}")));
    }
    let rounds = if options.quick { 2 } else { 10 };
    report.check("file_system", || qemu::kill_while_copying(options, rounds));
}

fn kill_loop(options: &Options, unit: Unit, rounds: u32) -> Outcome {
    let mut server = Server::start(options, Offer::of(&[unit]))?;
    let mut verifier = Verifier::new(unit.block_bytes, options.seed);
    for round in 0..rounds {
        let mut session = server.session(1)?;
        let lun = server.lun(0);
        session.settle(lun)?;
        verifier.check_all(&mut session, lun).context(&format!("round {round}, before"))?;
        let acks = 50 + verifier.chance.below(2000);
        verifier.write_until(&mut session, lun, acks)?;
        server.kill()?;
        verifier.collect_rest(&mut session)?;
        drop(session);
        server.start_again()?;
        let mut session = server.session(1)?;
        session.settle(lun)?;
        verifier.check_all(&mut session, lun).context(&format!("round {round}, after the kill"))?;
        verifier.check_cut_short().context(&format!("round {round}, after the kill"))?;
        verifier.check_all(&mut session, lun).context(&format!("round {round}, read twice"))?;
        session.logout()?;
    }
    server.stop()
}

/// What a command does: the blocks it touches, and the number of the content it puts there.
type Issued = (Extent, u64);

struct Verifier {
    chance: Seed,
    ledger: Ledger,
    in_flight: HashMap<u32, Issued>,
    /// Those of them that are atomic writes.
    atomic: HashSet<u32>,
    /// Atomic writes that the kill found in flight.
    cut_short: Vec<Issued>,
    next_number: u64,
}

impl Verifier {
    fn new(block_bytes: u32, seed: u64) -> Self {
        Self {
            chance: Seed::new(seed),
            ledger: Ledger::new(HOT_BLOCKS, block_bytes as usize),
            in_flight: HashMap::new(),
            atomic: HashSet::new(),
            cut_short: Vec::new(),
            next_number: 1,
        }
    }

    /// Keeps `DEPTH` commands in flight until `acks` have ended; then leaves them in flight.
    fn write_until(&mut self, session: &mut Session, lun: u64, acks: u64) -> Outcome {
        let mut done = 0;
        while done < acks {
            while self.in_flight.len() < DEPTH && session.window_open() && self.submit_one(session, lun)? {}
            let completion = session.complete_one()?;
            self.acknowledge(&completion)?;
            done += 1;
        }
        while self.in_flight.len() < DEPTH && session.window_open() && self.submit_one(session, lun)? {}
        Ok(())
    }

    /// Sends one write, unmap or flush to blocks that nothing else touches; false when none was found.
    fn submit_one(&mut self, session: &mut Session, lun: u64) -> Outcome<bool> {
        let kind = self.chance.below(32);
        if kind == 0 {
            let itt = session.submit(Command::bare(lun, scsi::synchronize_cache_16()))?;
            self.in_flight.insert(itt, (Extent::NONE, ZEROS));
            return Ok(true);
        }
        let Some(extent) = self.ledger.draw_free(&mut self.chance, BLOCKS_PER_IO_MAX) else {
            return Ok(false);
        };
        let number = if kind == 1 { ZEROS } else { self.next_number };
        self.next_number += 1;
        self.ledger.begin(extent, number);
        let (lba, blocks) = (extent.lba, extent.blocks as u32);
        let command = match kind {
            1 => {
                let list = scsi::unmap_list(&[(lba, blocks)]);
                Command::write(lun, scsi::unmap(list.len() as u16), list)
            }
            2..6 => Command::write(lun, scsi::write_16_fua(lba, blocks), self.ledger.content(extent, number)),
            6..9 => {
                Command::write(lun, scsi::write_atomic_16(lba, blocks), self.ledger.content(extent, number))
            }
            _ => Command::write(lun, scsi::write_16(lba, blocks), self.ledger.content(extent, number)),
        };
        let itt = session.submit(command)?;
        if let 6..9 = kind {
            self.atomic.insert(itt);
        }
        self.in_flight.insert(itt, (extent, number));
        Ok(true)
    }

    fn acknowledge(&mut self, completion: &Completion) -> Outcome {
        let Some((extent, number)) = self.in_flight.remove(&completion.itt) else {
            return fail("an answer to no command");
        };
        self.atomic.remove(&completion.itt);
        ensure(completion.status == status::GOOD, || format!("a command failed: {completion:?}"))?;
        self.ledger.acknowledge(extent, number);
        Ok(())
    }

    /// Answers that were on their way when the process died count: it said so.
    fn collect_rest(&mut self, session: &mut Session) -> Outcome {
        loop {
            match session.complete_one() {
                Ok(completion) => self.acknowledge(&completion)?,
                Err(WireError::Closed) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let cut_short = self.in_flight.drain().filter(|(itt, _)| self.atomic.contains(itt));
        self.cut_short = cut_short.map(|(_, issued)| issued).collect();
        self.atomic.clear();
        Ok(())
    }

    /// An atomic write that was not answered is there as a whole or not at all.
    fn check_cut_short(&self) -> Outcome {
        for (extent, number) in &self.cut_short {
            let there = self.ledger.count(*extent, *number);
            ensure(there == 0 || there == extent.blocks, || {
                format!("{there} blocks of atomic write {number} to {extent:?}")
            })?;
        }
        Ok(())
    }

    /// Reads every block and settles what it holds.
    fn check_all(&mut self, session: &mut Session, lun: u64) -> Outcome {
        let step_bytes = READ_BLOCKS * self.ledger.block_bytes() as u32;
        for first in (0..HOT_BLOCKS).step_by(READ_BLOCKS as usize) {
            let read = Command::read(lun, scsi::read_16(first, READ_BLOCKS), step_bytes);
            let completion = session.execute(read)?;
            ensure(completion.status == status::GOOD, || format!("a read failed: {completion:?}"))?;
            ensure(completion.data.len() == step_bytes as usize, || "a short read".to_owned())?;
            self.ledger.check(first, &completion.data)?;
        }
        Ok(())
    }
}
