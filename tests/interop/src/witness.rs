//! A well-behaved session on its own thread: it writes, reads back and compares without a pause while
//! something else happens, and counts. "Others are not stalled" is asserted in its completions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use initiator::scsi::{self, status};
use initiator::{Command, Session};

use crate::failure::{Failure, Outcome, ensure};
use crate::limits;
use crate::process::eventually;
use crate::server::Server;

const DEPTH: usize = 8;
const IO_BYTES: u32 = 4096;
/// The sense key.
const UNIT_ATTENTION: u8 = 6;

/// The thread and its counter.
#[derive(Debug)]
pub struct Witness {
    stop: Arc<AtomicBool>,
    completions: Arc<AtomicU64>,
    thread: Option<JoinHandle<Outcome>>,
}

impl Witness {
    /// Starts I/O on the `index`-th unit of `server`.
    pub fn start(server: &Server, index: usize) -> Outcome<Self> {
        let lun = server.lun(index);
        let mut session = server.session(0x0700 + index as u16)?;
        let capacity = session.settle(lun)?;
        let blocks_per_io = IO_BYTES / capacity.block_bytes;
        let slots = (capacity.blocks / u64::from(blocks_per_io)).min(1024);
        let stop = Arc::new(AtomicBool::new(false));
        let completions = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let (stop, completions) = (Arc::clone(&stop), Arc::clone(&completions));
            move || {
                let work = Work { lun, blocks_per_io, slots };
                work.run(&mut session, &stop, &completions)?;
                session.logout()?;
                Ok(())
            }
        });
        Ok(Self { stop, completions, thread: Some(thread) })
    }

    /// Completions so far.
    pub fn count(&self) -> u64 {
        self.completions.load(Ordering::Relaxed)
    }

    /// True when it stopped by itself: something was wrong with its I/O.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Fails unless `more` completions come from now on.
    pub fn ensure_progress(&self, more: u64) -> Outcome {
        let goal = self.count() + more;
        eventually(limits::STATE_PATIENCE, "the other session makes progress", || {
            ensure(!self.has_ended() || self.count() >= goal, || "the other session ended".to_owned())?;
            Ok(self.count() >= goal)
        })
    }

    /// Ends the I/O; fails if anything was wrong with it.
    pub fn finish(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread
            .join()
            .unwrap_or_else(|_| Err(Failure::new("panicked")))
            .map_err(|failure| failure.within("the other session"))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Work {
    lun: u64,
    blocks_per_io: u32,
    slots: u64,
}

impl Work {
    /// Writes a slot, reads it back when the write has ended; `DEPTH` slots at a time.
    fn run(&self, session: &mut Session, stop: &AtomicBool, completions: &AtomicU64) -> Outcome {
        let mut turn = 0u64;
        let mut pending: VecDeque<(u32, u64, bool)> = VecDeque::new();
        while !(stop.load(Ordering::Relaxed) && pending.is_empty()) {
            while pending.len() < DEPTH && !stop.load(Ordering::Relaxed) && session.window_open() {
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
            completions.fetch_add(1, Ordering::Relaxed);
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
            false => Command::read(self.lun, scsi::read_16(self.lba(turn), self.blocks_per_io), IO_BYTES),
        };
        Ok(session.submit(command)?)
    }

    fn lba(&self, turn: u64) -> u64 {
        // Fewer slots than turns: at most DEPTH are pending, so a slot has one owner at a time.
        (turn % self.slots) * u64::from(self.blocks_per_io)
    }
}

fn content(turn: u64) -> Vec<u8> {
    turn.to_le_bytes().repeat(IO_BYTES as usize / 8)
}
