//! The witness over NVMe/TCP: it writes, reads back and compares without a pause while something else happens, and
//! counts. "Others are not stalled" is asserted in its completions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nvme_host::sqe::opcode;
use nvme_host::{Association, Command, Queue, Sqe};

use crate::failure::{Failure, Outcome, ensure};
use crate::limits;
use crate::process::eventually;
use crate::server::Server;

const DEPTH: usize = 8;
const BLOCKS_PER_IO: u32 = 8;
const IO_BYTES: usize = 4096;
const SLOTS: u64 = 1024;
/// Host number of the first witness.
const HOST: u16 = 0x7000;

/// The thread and its counter.
#[derive(Debug)]
pub struct NvmfWitness {
    stop: Arc<AtomicBool>,
    completions: Arc<AtomicU64>,
    thread: Option<JoinHandle<Outcome>>,
}

impl NvmfWitness {
    /// Starts I/O on namespace `nsid` of `server`, whose blocks are of 512 bytes.
    pub fn start(server: &Server, nsid: u32) -> Outcome<Self> {
        let association = server.association(HOST + nsid as u16)?;
        let queue = association.io(1)?;
        let stop = Arc::new(AtomicBool::new(false));
        let completions = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let (stop, completions) = (Arc::clone(&stop), Arc::clone(&completions));
            move || run(association, queue, nsid, &stop, &completions)
        });
        Ok(Self { stop, completions, thread: Some(thread) })
    }

    fn count(&self) -> u64 {
        self.completions.load(Ordering::Relaxed)
    }

    /// True when it stopped by itself: something was wrong with its I/O.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Fails unless `more` completions come from now on.
    pub fn ensure_progress(&self, more: u64) -> Outcome {
        let goal = self.count() + more;
        eventually(limits::STATE_PATIENCE, "the other host makes progress", || {
            ensure(!self.has_ended() || self.count() >= goal, || "the other host ended".to_owned())?;
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
            .map_err(|failure| failure.within("the other host"))
    }
}

impl Drop for NvmfWitness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Writes a slot, and reads it back when the write has ended; `DEPTH` slots at a time.
fn run(
    association: Association,
    mut queue: Queue,
    nsid: u32,
    stop: &AtomicBool,
    completions: &AtomicU64,
) -> Outcome {
    let lba = |turn: u64| turn % SLOTS * u64::from(BLOCKS_PER_IO);
    let mut turn = 0u64;
    // CID to turn, and whether it writes.
    let mut pending: BTreeMap<u16, (u64, bool)> = BTreeMap::new();
    while !(stop.load(Ordering::Relaxed) && pending.is_empty()) {
        while pending.len() < DEPTH && !stop.load(Ordering::Relaxed) {
            let sqe = Sqe::blocks(opcode::WRITE, nsid, lba(turn), BLOCKS_PER_IO);
            pending.insert(queue.submit(Command::write(sqe, content(turn)))?, (turn, true));
            turn += 1;
        }
        let completion = queue.complete_one()?.good()?;
        let found = pending.remove(&completion.cid);
        let (which, was_write) = found.ok_or_else(|| Failure::new("an answer to no command"))?;
        completions.fetch_add(1, Ordering::Relaxed);
        if was_write {
            let sqe = Sqe::blocks(opcode::READ, nsid, lba(which), BLOCKS_PER_IO);
            pending.insert(queue.submit(Command::read(sqe, IO_BYTES))?, (which, false));
        } else {
            ensure(completion.data == content(which), || format!("slot of turn {which} reads wrong"))?;
        }
    }
    drop(queue);
    Ok(association.end()?)
}

fn content(turn: u64) -> Vec<u8> {
    turn.to_le_bytes().repeat(IO_BYTES / 8)
}
