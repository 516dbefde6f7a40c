//! A file volume with a journal on two simulated disks.

use std::io;

use reactor::buffer::{Sgl, SizeClass};
use reactor::core::Core;
use reactor::file::{File, FileDone, FileOp};
use reactor::sim::{DiskFaults, SimDisk, SimFile, SimRandom, SimWorld};
use uuid::Uuid;
use volume::bdev::{BdevInfo, Io, IoChannel, IoStatus, Op};
use volume::file::FileChannel;
use volume::geometry::Geometry;
use volume::io_mode::{BufferedReason, IoMode};
use volume::journal::{self, BlockingFile, ENTRY_OFFSET_BYTES, Pending, RecoverError};
use volume::volume::Volume;

use super::{Bug, Cut, HOT_BLOCKS};
use crate::Violation;
use crate::limits::{SECTOR_BYTES, VOLUME_BYTES};
use crate::world::allocation;

/// The disks, and the volume on them.
pub(super) struct Rig {
    geometry: Geometry,
    core: Core,
    data: SimDisk,
    journal: SimDisk,
    volume: Volume,
    bug: Option<Bug>,
}

impl Rig {
    pub(super) fn new(world: &SimWorld, random: &mut SimRandom, bug: Option<Bug>) -> Self {
        let block_bytes = if random.below(2) == 0 { 512 } else { 4096 };
        let geometry =
            Geometry::new(Uuid::from_u128(1), block_bytes, VOLUME_BYTES).expect("a sound geometry");
        let data = world.disk(VOLUME_BYTES);
        let journal = world.disk(journal::length_bytes(block_bytes));
        journal.poke(0, &journal::encode_label(&geometry));
        let core = world.core_with_buffers("c", &[SizeClass { bytes: 64 << 10, count: 12 }]);
        let mode = match random.below(2) {
            0 => IoMode::Direct { align_bytes: SECTOR_BYTES },
            _ => IoMode::Buffered(BufferedReason::Asked),
        };
        let info = BdevInfo {
            logical_block_bytes: block_bytes,
            physical_block_bytes: 4096,
            length_blocks: geometry.length_blocks,
            volatile_write_cache: true,
            thin: true,
            unmap_granularity_blocks: 4096 / block_bytes,
            write_unit_blocks: 1,
            atomic_write_blocks: 1,
            uuid: geometry.uuid,
        };
        let file = |disk: &SimDisk, is_journal| -> Box<dyn File> {
            Box::new(Careless { inner: disk.open(), bug, is_journal })
        };
        let map = Some(allocation(&data));
        let channel = FileChannel::over(file(&data, false), info, mode, map, &core.buffers);
        let channel = channel.with_journal(file(&journal, true));
        let volume = Volume::new(Box::new(channel), &core.buffers).expect("a fresh pool has the reserve");
        Self { geometry, core, data, journal, volume, bug }
    }

    /// Some operations fail from now on.
    pub(super) fn spoil_disks(&self, random: &mut SimRandom) {
        for disk in [&self.data, &self.journal] {
            let (write_error_permille, sync_error_permille) =
                (random.below(80) as u32, random.below(80) as u32);
            disk.set_faults(DiskFaults { write_error_permille, sync_error_permille, ..disk.faults() });
        }
    }

    pub(super) fn sectors_per_block(&self) -> u64 {
        u64::from(self.geometry.logical_block_bytes / SECTOR_BYTES)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.volume.in_flight()
    }

    /// Starts `op`; what it writes is `value` in every byte.
    pub(super) fn submit(&mut self, tag: u64, op: Op, value: u8) -> Option<IoStatus> {
        let length = op.payload_bytes(self.geometry.logical_block_bytes) as usize;
        let mut sgl = self.core.buffers.alloc(length).expect("memory for a few payloads");
        sgl.fill(0, length, value);
        let op = match op {
            Op::AtomicWrite { extent, .. } if self.bug == Some(Bug::NoJournal) => {
                Op::Write { extent, fua: true }
            }
            op => op,
        };
        self.volume.submit(Io { tag, op, sgl }).map(|done| done.status)
    }

    pub(super) fn poll(&mut self) -> Vec<(u64, IoStatus)> {
        let mut done = Vec::new();
        self.volume.poll(&mut done, 8);
        done.into_iter().map(|done| (done.tag, done.status)).collect()
    }

    /// After the last flush the journal is as it was made.
    pub(super) fn check_closed(&self) -> Result<(), Violation> {
        let rest = self.journal.len() - ENTRY_OFFSET_BYTES;
        let is_empty = self.journal.peek(ENTRY_OFFSET_BYTES, rest as usize).iter().all(|&byte| byte == 0);
        if is_empty || self.bug.is_some() {
            return Ok(());
        }
        Err(Violation::new("a flushed volume has an empty journal", String::new()))
    }

    /// Ends everything, opens the file again, and says what each sector of the hot blocks holds then.
    pub(super) fn cut(&self, cut: Cut, random: &mut SimRandom) -> Result<Vec<u8>, Violation> {
        let (mut data, mut journal) = match cut {
            Cut::Kill | Cut::KillAndPower => (self.data.kill(), self.journal.kill()),
            Cut::Power | Cut::PowerTwice => (self.data.crash(), self.journal.crash()),
        };
        for disk in [&data, &journal] {
            disk.set_faults(DiskFaults::default());
        }
        if self.bug == Some(Bug::NoRecovery) {
            return Ok(self.sectors(&data));
        }
        if let Cut::PowerTwice | Cut::KillAndPower = cut {
            // Whether it got to its end or not.
            let _ = self.recover(&data, &journal, random.below(6));
            (data, journal) = (data.crash(), journal.crash());
        }
        let recovered = self.recover(&data, &journal, u64::MAX);
        recovered.map_err(|error| Violation::new("a file opens again", error.to_string()))?;
        if cut == Cut::Kill {
            // Whatever the kill had left in memory only, opening has made what it completed durable.
            let again = self.recover(&data, &journal, u64::MAX);
            let again = again.map_err(|error| Violation::new("a file opens again", error.to_string()))?;
            if again.is_some() {
                return Err(Violation::new("a write is completed once", format!("{again:?}")));
            }
        }
        Ok(self.sectors(&data))
    }

    fn recover(
        &self,
        data: &SimDisk,
        journal: &SimDisk,
        operations: u64,
    ) -> Result<Option<volume::bdev::Extent>, RecoverError> {
        let left = std::cell::Cell::new(operations);
        let blocking = |disk: &SimDisk| Blocking { file: disk.open(), left: &left };
        journal::recover(&mut blocking(data), &mut blocking(journal), &self.geometry, Pending::Complete)
    }

    fn sectors(&self, data: &SimDisk) -> Vec<u8> {
        let bytes = HOT_BLOCKS * u64::from(self.geometry.logical_block_bytes);
        let content = data.peek(0, bytes as usize);
        let sectors = content.chunks(SECTOR_BYTES as usize);
        sectors
            .map(|sector| {
                assert!(sector.iter().all(|&byte| byte == sector[0]), "a sector is written whole");
                sector[0]
            })
            .collect()
    }
}

/// A simulated file for code that blocks; its machine fails after so many operations.
struct Blocking<'a> {
    file: SimFile,
    left: &'a std::cell::Cell<u64>,
}

impl Blocking<'_> {
    fn run(&mut self, op: FileOp) -> io::Result<Sgl> {
        self.file.submit(0, op).map_err(|_| io::Error::other("no room"))?;
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::other("the power has failed")),
        }
        let mut done = Vec::new();
        while done.is_empty() {
            self.file.poll(&mut done);
        }
        let done = done.remove(0);
        done.result.map(|()| done.sgl).map_err(io::Error::from_raw_os_error)
    }
}

impl BlockingFile for Blocking<'_> {
    fn read(&mut self, bytes: &mut [u8], offset_bytes: u64) -> io::Result<()> {
        let sgl = self.run(FileOp::Read { offset_bytes, sgl: Sgl::from_slice_heap(bytes) })?;
        sgl.copy_out(0, bytes);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], offset_bytes: u64) -> io::Result<()> {
        let sgl = Sgl::from_slice_heap(bytes);
        self.run(FileOp::Write { offset_bytes, sgl, durable: false }).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.run(FileOp::Sync).map(drop)
    }
}

/// A file that says of some operations that they are durable and does not see to it.
struct Careless {
    inner: SimFile,
    bug: Option<Bug>,
    is_journal: bool,
}

impl Careless {
    fn spoil(&self, op: FileOp) -> FileOp {
        match (op, self.bug, self.is_journal) {
            (FileOp::Write { offset_bytes, sgl, .. }, Some(Bug::EntryNotAwaited), true)
            | (FileOp::Write { offset_bytes, sgl, .. }, Some(Bug::PlaceNotAwaited), false) => {
                FileOp::Write { offset_bytes, sgl, durable: false }
            }
            (FileOp::Sync, Some(Bug::ZerosNotAwaited), true)
            | (FileOp::Sync, Some(Bug::PlaceNotAwaited), false) => {
                FileOp::Write { offset_bytes: 0, sgl: Sgl::empty(), durable: false }
            }
            (op, ..) => op,
        }
    }
}

impl File for Careless {
    fn submit(&mut self, tag: u64, op: FileOp) -> Result<(), FileOp> {
        self.inner.submit(tag, self.spoil(op))
    }

    fn poll(&mut self, out: &mut Vec<FileDone>) {
        self.inner.poll(out);
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}
