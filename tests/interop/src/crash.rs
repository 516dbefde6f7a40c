//! kill -9, again and again, with a verifier that keeps its own log of what was acknowledged.
//!
//! Every block carries its own address and the number of the write that put it there. After a kill each block
//! must hold the last acknowledged content, or that of a later write of the same block that was in flight;
//! whichever is read then stays. Nothing else: no older content, no other block's, no mixture.

use std::collections::HashMap;

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
        verifier.check_all(&mut session, lun).context(&format!("round {round}, read twice"))?;
        session.logout()?;
    }
    server.stop()
}

/// What is known about one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Number of the last acknowledged write; 0 for zeros.
    acked: u64,
    /// A write in flight, or one whose end is unknown since the kill.
    pending: Option<u64>,
}

/// The blocks that one command touches, and the content number it puts there (0: unmap).
#[derive(Clone, Copy, Debug)]
struct Issued {
    lba: u64,
    blocks: u64,
    number: u64,
}

struct Verifier {
    block_bytes: usize,
    chance: Seed,
    blocks: Vec<Known>,
    in_flight: HashMap<u32, Issued>,
    next_number: u64,
}

impl Verifier {
    fn new(block_bytes: u32, seed: u64) -> Self {
        Self {
            block_bytes: block_bytes as usize,
            chance: Seed::new(seed),
            blocks: vec![Known::default(); HOT_BLOCKS as usize],
            in_flight: HashMap::new(),
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
            self.in_flight.insert(itt, Issued { lba: 0, blocks: 0, number: 0 });
            return Ok(true);
        }
        let Some((lba, blocks)) = self.find_free() else { return Ok(false) };
        let number = if kind == 1 { 0 } else { self.next_number };
        self.next_number += 1;
        for block in &mut self.blocks[lba as usize..(lba + blocks) as usize] {
            block.pending = Some(number);
        }
        let command = match kind {
            1 => {
                let list = scsi::unmap_list(&[(lba, blocks as u32)]);
                Command::write(lun, scsi::unmap(list.len() as u16), list)
            }
            2..6 => {
                Command::write(lun, scsi::write_16_fua(lba, blocks as u32), self.data(lba, blocks, number))
            }
            _ => Command::write(lun, scsi::write_16(lba, blocks as u32), self.data(lba, blocks, number)),
        };
        let itt = session.submit(command)?;
        self.in_flight.insert(itt, Issued { lba, blocks, number });
        Ok(true)
    }

    fn find_free(&mut self) -> Option<(u64, u64)> {
        (0..64).find_map(|_| {
            let blocks = 1 + self.chance.below(BLOCKS_PER_IO_MAX);
            let lba = self.chance.below(HOT_BLOCKS - blocks);
            let free = self.blocks[lba as usize..(lba + blocks) as usize].iter().all(|b| b.pending.is_none());
            free.then_some((lba, blocks))
        })
    }

    fn acknowledge(&mut self, completion: &Completion) -> Outcome {
        let Some(issued) = self.in_flight.remove(&completion.itt) else {
            return fail("an answer to no command");
        };
        ensure(completion.status == status::GOOD, || format!("a command failed: {completion:?}"))?;
        for block in &mut self.blocks[issued.lba as usize..(issued.lba + issued.blocks) as usize] {
            *block = Known { acked: issued.number, pending: None };
        }
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
        self.in_flight.clear();
        Ok(())
    }

    /// Reads every block and settles what it holds.
    fn check_all(&mut self, session: &mut Session, lun: u64) -> Outcome {
        let step_bytes = READ_BLOCKS * self.block_bytes as u32;
        for first in (0..HOT_BLOCKS).step_by(READ_BLOCKS as usize) {
            let read = Command::read(lun, scsi::read_16(first, READ_BLOCKS), step_bytes);
            let completion = session.execute(read)?;
            ensure(completion.status == status::GOOD, || format!("a read failed: {completion:?}"))?;
            ensure(completion.data.len() == step_bytes as usize, || "a short read".to_owned())?;
            for (lba, content) in (first..).zip(completion.data.chunks_exact(self.block_bytes)) {
                self.check_block(lba, content)?;
            }
        }
        Ok(())
    }

    fn check_block(&mut self, lba: u64, content: &[u8]) -> Outcome {
        let known = &mut self.blocks[lba as usize];
        let number = read_number(lba, content).context(&format!("LBA {lba}, {known:?}"))?;
        ensure(number == known.acked || Some(number) == known.pending, || {
            format!("LBA {lba} holds write {number}, but {known:?}")
        })?;
        *known = Known { acked: number, pending: None };
        Ok(())
    }

    fn data(&self, lba: u64, blocks: u64, number: u64) -> Vec<u8> {
        (lba..lba + blocks).flat_map(|lba| block_content(lba, number, self.block_bytes)).collect()
    }
}

/// Address and number, again and again, so that every part of the block names them.
fn block_content(lba: u64, number: u64, block_bytes: usize) -> Vec<u8> {
    [lba.to_be_bytes(), number.to_be_bytes()].concat().repeat(block_bytes / 16)
}

/// The number of the write that a block's content came from; 0 for zeros.
fn read_number(lba: u64, content: &[u8]) -> Outcome<u64> {
    if content.iter().all(|byte| *byte == 0) {
        return Ok(0);
    }
    let mut number = [0; 8];
    number.copy_from_slice(&content[8..16]);
    let number = u64::from_be_bytes(number);
    ensure(content == block_content(lba, number, content.len()), || {
        format!("neither one write's content nor zeros: begins with {:02x?}", &content[..16])
    })?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(acked: u64, pending: Option<u64>) -> Verifier {
        let mut verifier = Verifier::new(512, 1);
        verifier.blocks[5] = Known { acked, pending };
        verifier
    }

    #[test]
    fn acknowledged_or_pending_content_is_accepted_and_then_fixed() {
        let mut verifier = verifier(7, Some(9));
        verifier.check_block(5, &block_content(5, 9, 512)).expect("the pending write");
        assert!(verifier.check_block(5, &block_content(5, 7, 512)).is_err(), "it was read as 9 before");
    }

    #[test]
    fn loss_misdirection_and_mixture_are_seen() {
        assert!(verifier(7, None).check_block(5, &block_content(5, 6, 512)).is_err(), "older");
        assert!(verifier(7, None).check_block(5, &[0; 512]).is_err(), "lost");
        assert!(verifier(7, None).check_block(5, &block_content(6, 7, 512)).is_err(), "another block's");
        let mut torn = block_content(5, 7, 512);
        torn[256..].copy_from_slice(&block_content(5, 9, 512)[256..]);
        assert!(verifier(7, Some(9)).check_block(5, &torn).is_err(), "torn");
        assert!(verifier(7, Some(0)).check_block(5, &[0; 512]).is_ok(), "unmapped in flight");
    }
}
