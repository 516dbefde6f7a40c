//! The witness over iSCSI.

use std::collections::VecDeque;

use initiator::scsi::{self, status};
use initiator::{Command, Session};

use crate::failure::{Failure, Outcome, ensure};
use crate::server::Server;
use crate::witness::{DEPTH, IO_BYTES, Pace, SLOTS_MAX, Witness, content};

/// The sense key.
const UNIT_ATTENTION: u8 = 6;

/// Starts I/O on the `index`-th unit of `server`.
pub fn start(server: &Server, index: usize) -> Outcome<Witness> {
    let lun = server.lun(index);
    let mut session = server.session(0x0700 + index as u16)?;
    let capacity = session.settle(lun)?;
    let blocks_per_io = IO_BYTES as u32 / capacity.block_bytes;
    let slots = (capacity.blocks / u64::from(blocks_per_io)).min(SLOTS_MAX);
    let work = Work { lun, blocks_per_io, slots };
    Ok(Witness::spawn(move |pace| {
        work.run(&mut session, pace)?;
        Ok(session.logout()?)
    }))
}

struct Work {
    lun: u64,
    blocks_per_io: u32,
    slots: u64,
}

impl Work {
    /// Writes a slot, reads it back when the write has ended; `DEPTH` slots at a time.
    fn run(&self, session: &mut Session, pace: &Pace) -> Outcome {
        let mut turn = 0u64;
        let mut pending: VecDeque<(u32, u64, bool)> = VecDeque::new();
        while !(pace.is_over() && pending.is_empty()) {
            while pending.len() < DEPTH && !pace.is_over() && session.window_open() {
                pending.push_back((self.submit(session, turn, true)?, turn, true));
                turn += 1;
            }
            let completion = session.complete_one()?;
            let position = pending.iter().position(|(itt, ..)| *itt == completion.itt);
            let Some((_, which, was_write)) = position.and_then(|position| pending.remove(position)) else {
                return Err(Failure::new("an answer to no command"));
            };
            if completion.sense.is_some_and(|sense| sense.key == UNIT_ATTENTION) {
                // Another session reset the unit, as it may. The command was not executed: the same again.
                pending.push_back((self.submit(session, which, was_write)?, which, was_write));
                continue;
            }
            ensure(completion.status == status::GOOD, || format!("I/O failed: {completion:?}"))?;
            pace.completed();
            if was_write {
                pending.push_back((self.submit(session, which, false)?, which, false));
            } else {
                ensure(completion.data == content(which), || format!("slot of turn {which} reads wrong"))?;
            }
        }
        Ok(())
    }

    fn submit(&self, session: &mut Session, turn: u64, write: bool) -> Outcome<u32> {
        let command = match write {
            true => {
                Command::write(self.lun, scsi::write_16(self.lba(turn), self.blocks_per_io), content(turn))
            }
            false => {
                Command::read(self.lun, scsi::read_16(self.lba(turn), self.blocks_per_io), IO_BYTES as u32)
            }
        };
        Ok(session.submit(command)?)
    }

    fn lba(&self, turn: u64) -> u64 {
        // Fewer slots than turns: at most DEPTH are pending, so a slot has one owner at a time.
        (turn % self.slots) * u64::from(self.blocks_per_io)
    }
}
