//! What a driver must show on real registers, one controller at a time.

use std::rc::Rc;
use std::time::Duration;

use harness::failure::{Outcome, ensure};
use harness::report::say;
use nvme::{Config, End, Timeouts};
use volume::bdev::{Extent, Io, IoChannel, IoStatus, Op};

use crate::rig::{PATIENCE, Rig};

/// The end that a driver makes of a healthy controller.
const WELL: Option<End> = Some(End::ShutDown { clean: true });

fn extent(lba: u64, length_blocks: u64) -> Extent {
    Extent { lba, length_blocks }
}

/// Says who a controller is and what it has.
pub fn identify(address: &str) -> Outcome {
    let mut rig = Rig::start(address, Config::default())?;
    let info = rig.controller().info().cloned();
    say(&format!("{info:?}"));
    for namespace in rig.controller().namespaces() {
        let info = namespace.info();
        say(&format!("namespace {} blocks {} of {} bytes", info.nsid, info.length_blocks, info.block_bytes));
    }
    for (nsid, refusal) in rig.controller().refused() {
        say(&format!("namespace {nsid} is refused: {refusal}"));
    }
    let end = rig.release()?;
    ensure(end == WELL, || format!("the controller ended as {end:?}"))
}

/// A sector that cannot be read and one that cannot be written fail alone, by their numbers.
pub fn media(address: &str, unreadable: u64, unwritable: u64) -> Outcome {
    let mut rig = Rig::start(address, Config::default())?;
    let mut channel = rig.channel(1)?;
    let block_bytes = channel.info().logical_block_bytes as usize;
    let around = |lba: u64| extent(lba - 8, 16);
    let sgl = rig.buffer(16 * block_bytes)?;
    let read = rig.run(&mut channel, Op::Read(around(unreadable)), sgl)?.status;
    say(&format!("a read over sector {unreadable}: {read:?}"));
    ensure(read == IoStatus::ReadError { lba: unreadable }, || "the sector is not named".to_owned())?;
    let before = extent(unreadable - 8, 8);
    let sgl = rig.buffer(8 * block_bytes)?;
    rig.run_well(&mut channel, Op::Read(before), sgl)?;
    let write = Op::Write { extent: around(unwritable), fua: false };
    let mut sgl = rig.buffer(16 * block_bytes)?;
    sgl.fill(0, 16 * block_bytes, 0x77);
    let written = rig.run(&mut channel, write, sgl)?.status;
    say(&format!("a write over sector {unwritable}: {written:?}"));
    ensure(matches!(written, IoStatus::WriteError { .. }), || "the write did not fail".to_owned())?;
    // Elsewhere nothing has changed, and no reset was needed for any of it.
    let mut sgl = rig.buffer(16 * block_bytes)?;
    sgl.fill(0, 16 * block_bytes, 0x55);
    rig.run_well(&mut channel, Op::Write { extent: extent(0, 16), fua: true }, sgl)?;
    let sgl = rig.buffer(16 * block_bytes)?;
    let content = rig.run_well(&mut channel, Op::Read(extent(0, 16)), sgl)?.to_vec();
    ensure(content.iter().all(|byte| *byte == 0x55), || "other sectors were touched".to_owned())?;
    let resets = rig.controller().stats().resets.get();
    ensure(resets == 0, || format!("the controller was reset {resets} times"))?;
    drop(channel);
    let end = rig.release()?;
    ensure(end == WELL, || format!("the controller ended as {end:?}"))
}

/// More I/O at once than a slow disk answers in time: with patience all of it ends well; without, the ladder is climbed
/// (abort, reset), every I/O is answered once, and the controller serves again.
pub fn slow(address: &str) -> Outcome {
    let (good, aborts, resets) = burst(address, Config::default(), 64)?;
    ensure((good, aborts, resets) == (64, 0, 0), || "a patient driver has climbed the ladder".to_owned())?;
    let (io, abort) = (Duration::from_millis(400), Duration::from_millis(400));
    let timeouts = Timeouts { io, abort, ..Timeouts::default() };
    let (_, aborts, resets) = burst(address, Config { timeouts, ..Config::default() }, 64)?;
    ensure(aborts > 0 && resets > 0, || "an impatient driver has not climbed the ladder".to_owned())
}

/// Writes `count` blocks at once. Answers how many ended well, aborts and resets.
fn burst(address: &str, config: Config, count: u64) -> Outcome<(u64, u64, u64)> {
    let mut rig = Rig::start(address, config)?;
    let mut channel = rig.channel(1)?;
    let block_bytes = channel.info().logical_block_bytes as usize;
    let mut out = Vec::new();
    for number in 0..count {
        let mut sgl = rig.buffer(block_bytes)?;
        sgl.fill(0, block_bytes, number as u8 + 1);
        let op = Op::Write { extent: extent(number * 8, 1), fua: false };
        out.extend(channel.submit(Io { tag: number, op, sgl }));
    }
    let deadline = rig.now().after(PATIENCE);
    while (out.len() as u64) < count {
        rig.turn();
        channel.poll(&mut out, count as usize);
        ensure(rig.now() < deadline, || format!("{} of {count} were answered", out.len()))?;
    }
    let mut tags: Vec<u64> = out.iter().map(|done| done.tag).collect();
    tags.sort_unstable();
    ensure(tags.into_iter().eq(0..count), || "an I/O was answered twice".to_owned())?;
    let good: Vec<u64> =
        out.iter().filter(|done| done.status == IoStatus::Good).map(|done| done.tag).collect();
    out.clear();
    // What ended well must be there; the answer may take its time.
    for number in &good {
        let sgl = rig.buffer(block_bytes)?;
        let done = rig.run(&mut channel, Op::Read(extent(number * 8, 1)), sgl)?;
        let whole = done.sgl.to_vec().iter().all(|byte| *byte == *number as u8 + 1);
        ensure(done.status == IoStatus::Good && whole, || format!("block {number}: {:?}", done.status))?;
    }
    let aborts = rig.core().stats().aborts.get();
    let resets = rig.controller().stats().resets.get();
    say(&format!("{} of {count} ended well; {aborts} aborts, {resets} resets", good.len()));
    drop(channel);
    let end = rig.release()?;
    ensure(end == WELL, || format!("the controller ended as {end:?}"))?;
    Ok((good.len() as u64, aborts, resets))
}

/// What every volume shows, on this namespace.
pub fn conformance(address: &str, nsid: u32) -> Outcome {
    let rig = Rig::start(address, Config::default())?;
    let block_bytes = rig.namespace(nsid)?.info().block_bytes;
    let rig = Rc::new(std::cell::RefCell::new(rig));
    crate::subject::run(&rig, nsid, block_bytes)?;
    let rig = Rc::into_inner(rig).expect("every subject has ended").into_inner();
    let end = rig.release()?;
    ensure(end == WELL, || format!("the controller ended as {end:?}"))
}
