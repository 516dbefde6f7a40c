//! Readers that ask for much and take nothing, and one among them that wakes up.

use std::time::Duration;

use initiator::pdu::{FINAL, IMMEDIATE, NO_TAG, opcode};
use initiator::scsi::{self, status};
use initiator::{Command, Session, WireError};

use crate::failure::{Context, Failure, Outcome, ensure};
use crate::iscsi_witness;
use crate::restart::good;
use crate::scene::{BACKLOG_KIB_MAX, PROGRESS, Scene};

/// Readers at once. Each asks for up to half of the unit: together for sixteen times what the target's buffers hold.
const READERS: u16 = 32;
/// The one among them that reads after all: one that came neither first nor last.
const SLEEPER: usize = 5;
/// Blocks of one read: 256 KiB.
const READ_BLOCKS: u32 = 512;
const READ_BYTES: usize = READ_BLOCKS as usize * 512;
/// Reads of one reader at most.
const READS: u32 = 128;
/// Where they begin: behind the blocks that a witness on the same unit writes.
const FIRST_LBA: u64 = 64 * 1024;

/// What a read from block `lba` returns: each block holds its own number.
fn content(lba: u64) -> Vec<u8> {
    (lba..lba + u64::from(READ_BLOCKS)).flat_map(|lba| lba.to_le_bytes().repeat(64)).collect()
}

fn lba(number: u32) -> u64 {
    FIRST_LBA + u64::from(number) * u64::from(READ_BLOCKS)
}

/// Sessions that ask for all the data their window allows, and do not read it: each with the tags of its commands.
///
/// The sleeper keeps the receive buffer that it got. With a tiny one, whose window is smaller than a segment of the
/// loopback interface, the kernel sends one window per tick of its persist timer, every 200 ms: that would be a test of the kernel.
fn stalled_readers(scene: &Scene) -> Outcome<Vec<(Session, Vec<u32>)>> {
    let lun = scene.server.lun(0);
    let mut readers = Vec::new();
    for qualifier in 1..=READERS {
        let mut session = scene.server.session(qualifier)?;
        session.settle(lun)?;
        if readers.len() != SLEEPER {
            session.wire.shrink_receive_buffer()?;
        }
        let mut asked = Vec::new();
        while session.window_open() && asked.len() < READS as usize {
            let cdb = scsi::read_16(lba(asked.len() as u32), READ_BLOCKS);
            asked.push(session.submit(Command::read(lun, cdb, READ_BYTES as u32))?);
        }
        readers.push((session, asked));
    }
    Ok(readers)
}

/// Others get on beside readers that do not read, and one of these that wakes up gets all that it asked for.
pub fn slow_readers(scene: &mut Scene) -> Outcome {
    let lun = scene.server.lun(0);
    let mut writer = scene.server.session(0x100)?;
    writer.settle(lun)?;
    for number in 0..READS {
        let write = Command::write(lun, scsi::write_16(lba(number), READ_BLOCKS), content(lba(number)));
        good(&mut writer, write).context("filling the unit")?;
    }
    writer.logout()?;
    // A volume in memory grows by what was written; that is no leak.
    scene.held = scene.server.held()?;

    let mut readers = stalled_readers(scene)?;
    let asked = readers.iter().map(|(_, asked)| asked.len()).sum::<usize>();
    scene
        .server
        .ensure_buffers_short(|| scene.witness.ensure_progress(PROGRESS))
        .context(&format!("beside readers that do not read what {asked} commands asked for"))?;
    let neighbour = iscsi_witness::start(&scene.server, 0).context("a new session on the unit they read")?;
    neighbour.ensure_progress(PROGRESS).context("on the unit that is read by readers that do not read")?;
    neighbour.finish()?;
    let grown = scene.server.held()?.resident_kib.saturating_sub(scene.held.resident_kib);
    ensure(grown < BACKLOG_KIB_MAX, || format!("stuck readers made the target keep {grown} KiB more"))?;

    let (session, asked) = &mut readers[SLEEPER];
    wake_up(session, asked).context("a reader that woke up beside others that did not")?;
    scene.witness.ensure_progress(PROGRESS).context("after one of them woke up")
}

/// Reads the answers to all of `asked`: each right, and the session works as any other afterwards.
fn wake_up(session: &mut Session, asked: &[u32]) -> Outcome {
    for answered in 0..asked.len() {
        let completion = session.complete_one().context(&format!("answer {answered} of {}", asked.len()))?;
        let number = asked.iter().position(|itt| *itt == completion.itt);
        let number = number.ok_or_else(|| Failure::new("an answer to no read"))?;
        ensure(completion.status == status::GOOD, || format!("read {number}: {:?}", completion.sense))?;
        ensure(completion.data == content(lba(number as u32)), || format!("read {number} is wrong"))?;
    }
    Ok(())
}

/// Sessions that send pings as long as the target takes them, and never read an answer.
pub fn pings_never_read(scene: &mut Scene) -> Outcome {
    let mut sessions = Vec::new();
    for qualifier in 1..=8 {
        let mut session = scene.server.session(qualifier)?;
        session.wire.shrink_receive_buffer()?;
        session.wire.set_patience(Duration::from_millis(200))?;
        let mut pdu = session.request_pdu(opcode::NOP_OUT | IMMEDIATE, FINAL).with_data(vec![7; 4096]);
        pdu.set_word(20, NO_TAG);
        let bytes = pdu.encode(session.wire.digests);
        // 32 MiB of pings: the target must stop taking them long before.
        for _ in 0..8192 {
            match session.wire.send_some(&bytes) {
                Ok(sent) if sent == bytes.len() => {}
                Ok(_) | Err(WireError::Closed) => break,
                Err(error) => return Err(error.into()),
            }
        }
        sessions.push(session);
    }
    scene.witness.ensure_progress(PROGRESS).context("beside peers that only ping")?;
    let grown = scene.server.held()?.resident_kib.saturating_sub(scene.held.resident_kib);
    ensure(grown < BACKLOG_KIB_MAX, || format!("unread pings made the target keep {grown} KiB more"))
}
