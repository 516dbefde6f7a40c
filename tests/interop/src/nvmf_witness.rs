//! The witness over NVMe/TCP.

use std::collections::BTreeMap;

use nvme_host::sqe::opcode;
use nvme_host::{Association, Command, Queue, Sqe};

use crate::failure::{Failure, Outcome, ensure};
use crate::server::Server;
use crate::witness::{DEPTH, IO_BYTES, Pace, SLOTS_MAX, Witness, content};

const BLOCKS_PER_IO: u32 = 8;
/// Host number of the first witness.
const HOST: u16 = 0x7000;

/// Starts I/O on namespace `nsid` of `server`, whose blocks are of 512 bytes.
pub fn start(server: &Server, nsid: u32) -> Outcome<Witness> {
    let association = server.association(HOST + nsid as u16)?;
    let queue = association.io(1)?;
    Ok(Witness::spawn(move |pace| run(association, queue, nsid, pace)))
}

/// Writes a slot, and reads it back when the write has ended; `DEPTH` slots at a time.
fn run(association: Association, mut queue: Queue, nsid: u32, pace: &Pace) -> Outcome {
    let lba = |turn: u64| turn % SLOTS_MAX * u64::from(BLOCKS_PER_IO);
    let mut turn = 0u64;
    // CID to turn, and whether it writes.
    let mut pending: BTreeMap<u16, (u64, bool)> = BTreeMap::new();
    while !(pace.is_over() && pending.is_empty()) {
        while pending.len() < DEPTH && !pace.is_over() {
            let sqe = Sqe::blocks(opcode::WRITE, nsid, lba(turn), BLOCKS_PER_IO);
            pending.insert(queue.submit(Command::write(sqe, content(turn)))?, (turn, true));
            turn += 1;
        }
        let completion = queue.complete_one()?.good()?;
        let found = pending.remove(&completion.cid);
        let (which, was_write) = found.ok_or_else(|| Failure::new("an answer to no command"))?;
        pace.completed();
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
