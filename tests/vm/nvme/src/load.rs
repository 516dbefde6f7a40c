//! Verified load through the driver: stamped writes, a flush and a line in the journal after every so many.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use harness::failure::{Context, Outcome, ensure, fail};
use harness::report::say;
use nvme::{Config, End};
use reactor::buffer::Sgl;
use reactor::time::Time;
use vfio::VfioDevice;
use volume::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};
use volume::nvme::NvmeChannel;

use crate::journal::{CELL_BYTES, CELLS, FLUSH_EVERY, Journal, stamp};
use crate::rig::{PATIENCE, Rig};

/// Writes in flight at once.
const DEPTH: u64 = 16;

/// What a load runs on, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The controller.
    pub address: &'a str,
    /// The namespace.
    pub nsid: u32,
    /// Where its journal is.
    pub journal: &'a Path,
    /// It ends once there is such a file.
    pub stop: &'a Path,
    /// The controller is reset once in so many flushes.
    pub reset_every: Option<u64>,
    /// The controller is to be pulled out: that is how it ends, and how it should.
    pub until_gone: bool,
}

struct Running<'a> {
    load: Load<'a>,
    rig: Rig,
    channel: NvmeChannel<VfioDevice>,
    blocks_per_cell: u64,
    journal: Journal,
    file: File,
    /// The next write.
    next: u64,
    in_flight: u64,
    /// The last time that something was answered.
    heard: Time,
    out: Vec<Done>,
    gone: bool,
}

/// Loads until it is told to stop.
pub fn run(load: Load<'_>) -> Outcome {
    // A journal that is there speaks of blocks that are about to change.
    let before = Journal::load(load.journal).unwrap_or_default();
    let file = File::options().read(true).write(true).create(true).truncate(false).open(load.journal)?;
    let journal = Journal { first: before.next_first(), flushed: 0 };
    journal.store(&file).context("the journal")?;
    let rig = Rig::start(load.address, Config::default())?;
    let channel = rig.channel(load.nsid)?;
    let info = channel.info();
    let blocks_per_cell = CELL_BYTES as u64 / u64::from(info.logical_block_bytes);
    ensure(info.length_blocks >= CELLS * blocks_per_cell, || "the namespace is too small".to_owned())?;
    let (next, heard, out) = (journal.first, rig.now(), Vec::new());
    let mut running = Running {
        load,
        rig,
        channel,
        blocks_per_cell,
        journal,
        file,
        next,
        in_flight: 0,
        heard,
        out,
        gone: false,
    };
    running.work()?;
    running.end()
}

impl Running<'_> {
    fn work(&mut self) -> Outcome {
        let mut flushes = 0;
        while !self.gone {
            self.write_some()?;
            if self.gone || !self.flush()? {
                break;
            }
            flushes += 1;
            let all_written = self.next - self.journal.first >= CELLS;
            if all_written {
                self.journal.flushed = self.next - 1;
                self.journal.store(&self.file).context("the journal")?;
                if self.load.stop.exists() {
                    break;
                }
            }
            if self.load.reset_every.is_some_and(|every| flushes % every == 0) {
                // Under way while the next writes are submitted, and while others are in flight.
                self.submit_write()?;
                let now = self.rig.now();
                self.rig.controller().reset(now);
            }
        }
        Ok(())
    }

    /// The rest of a round, to the end of every write.
    fn write_some(&mut self) -> Outcome {
        let begun = self.next - self.journal.first;
        let goal = self.journal.first + (begun / FLUSH_EVERY + 1) * FLUSH_EVERY;
        while self.in_flight > 0 || self.next < goal && !self.gone {
            while self.in_flight < DEPTH && self.next < goal && !self.gone {
                self.submit_write()?;
            }
            self.turn()?;
        }
        Ok(())
    }

    fn submit_write(&mut self) -> Outcome {
        let number = self.next;
        self.next += 1;
        let cell = self.journal.cell(number);
        let mut sgl = self.rig.buffer(CELL_BYTES)?;
        sgl.copy_in(0, &stamp(number, cell, CELL_BYTES));
        let extent = Extent { lba: cell * self.blocks_per_cell, length_blocks: self.blocks_per_cell };
        self.in_flight += 1;
        let io = Io { tag: number, op: Op::Write { extent, fua: false }, sgl };
        match self.channel.submit(io) {
            Some(done) => self.answered(done),
            None => Ok(()),
        }
    }

    fn answered(&mut self, done: Done) -> Outcome {
        self.in_flight -= 1;
        self.heard = self.rig.now();
        match done.status {
            IoStatus::Good => Ok(()),
            IoStatus::Gone if self.load.until_gone => {
                self.gone = true;
                Ok(())
            }
            status => fail(format!("write {} ended with {status:?}", done.tag)),
        }
    }

    fn turn(&mut self) -> Outcome {
        self.rig.turn();
        let mut out = std::mem::take(&mut self.out);
        self.channel.poll(&mut out, DEPTH as usize);
        for done in out.drain(..) {
            self.answered(done)?;
        }
        self.out = out;
        let now = self.rig.now();
        ensure(now < self.heard.after(PATIENCE), || format!("{} writes have no answer", self.in_flight))
    }

    /// False when the controller is gone.
    fn flush(&mut self) -> Outcome<bool> {
        let done = self.rig.run(&mut self.channel, Op::Flush, Sgl::empty())?;
        self.heard = self.rig.now();
        match done.status {
            IoStatus::Good => Ok(true),
            IoStatus::Gone if self.load.until_gone => {
                self.gone = true;
                Ok(false)
            }
            status => fail(format!("a flush ended with {status:?}")),
        }
    }

    fn end(mut self) -> Outcome {
        let stats = self.rig.core().stats();
        let resets = self.rig.controller().stats().resets.get();
        say(&format!(
            "{} writes, {} flushed, {resets} resets, {} commands sent again",
            self.next - self.journal.first,
            self.journal.flushed.saturating_sub(self.journal.first),
            stats.retries.get()
        ));
        if self.load.reset_every.is_some() {
            ensure(resets > 0, || "the controller was never reset".to_owned())?;
        }
        drop(self.channel);
        let end = self.rig.release()?;
        let wanted =
            if self.load.until_gone { Some(End::Removed) } else { Some(End::ShutDown { clean: true }) };
        ensure(end == wanted, || format!("the controller ended as {end:?}"))
    }
}

/// The same load on a disk of the kernel, whatever is below it: written through the page cache, flushed by `fdatasync`.
pub fn run_on_disk(disk: &Path, journal: &Path, stop: &Path) -> Outcome {
    let before = Journal::load(journal).unwrap_or_default();
    let disk = File::options().write(true).open(disk).context("the disk")?;
    let file = File::options().read(true).write(true).create(true).truncate(false).open(journal)?;
    let mut journal = Journal { first: before.next_first(), flushed: 0 };
    journal.store(&file).context("the journal")?;
    let mut next = journal.first;
    while !stop.exists() {
        for number in next..next + FLUSH_EVERY {
            let cell = journal.cell(number);
            let at = cell * CELL_BYTES as u64;
            disk.write_all_at(&stamp(number, cell, CELL_BYTES), at).context(&format!("write {number}"))?;
        }
        disk.sync_data().context("a flush")?;
        next += FLUSH_EVERY;
        if next - journal.first >= CELLS {
            journal.flushed = next - 1;
            journal.store(&file).context("the journal")?;
        }
    }
    say(&format!("{} writes", next - journal.first));
    Ok(())
}

/// Checks what a load has left, through the driver.
pub fn verify(address: &str, nsid: u32, journal: &Path) -> Outcome {
    let journal = Journal::load(journal)?;
    let mut rig = Rig::start(address, Config::default())?;
    let mut channel = rig.channel(nsid)?;
    let block_bytes = channel.info().logical_block_bytes as usize;
    let blocks_per_cell = (CELL_BYTES / block_bytes) as u64;
    let cells = journal.verify(block_bytes, |cell| {
        let extent = Extent { lba: cell * blocks_per_cell, length_blocks: blocks_per_cell };
        let sgl = rig.buffer(CELL_BYTES)?;
        Ok(rig.run_well(&mut channel, Op::Read(extent), sgl)?.to_vec())
    })?;
    drop(channel);
    rig.release()?;
    checked(cells)
}

/// Checks what a load has left, through a disk of the kernel.
pub fn verify_disk(disk: &Path, journal: &Path) -> Outcome {
    let (journal, file) = (Journal::load(journal)?, File::open(disk)?);
    let cells = journal.verify(512, |cell| {
        let mut bytes = vec![0; CELL_BYTES];
        file.read_exact_at(&mut bytes, cell * CELL_BYTES as u64)?;
        Ok(bytes)
    })?;
    checked(cells)
}

fn checked(cells: u64) -> Outcome {
    ensure(cells == CELLS, || "nothing is known of this namespace".to_owned())?;
    say(&format!("all {cells} cells hold what they must"));
    Ok(())
}
