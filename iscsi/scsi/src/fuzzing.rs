//! A logical unit on a bench: over a model of a disk, with every step checked. Unit tests drive it by
//! hand, the fuzz target with arbitrary bytes.

use std::rc::Rc;

use reactor::buffer::{BufferPool, Sgl, SizeClass};
use smallvec::SmallVec;
use volume::bdev::{BdevInfo, Done, Extent, Io, IoStatus, Op};
use volume::reservation::{ReservationCell, Reservations};

use crate::limits::SENSE_BYTES_MAX;
use crate::{
    Background, ChangeError, Command, Context, LogicalUnit, LuConfig, NexusId, NexusName, ReservationChange,
    Response, Status, Step, UnitAttention, WriteCachePolicy,
};

/// The LUNs that the bench's target has.
pub const LUNS: [u64; 2] = [0, 1 << 48];

/// What the I/O of background operations carries.
pub const BACKGROUND_TAG: u64 = u64::MAX - 1;

/// A disk in memory that does what the block interface says, and nothing else.
#[derive(Debug)]
pub struct Disk {
    /// What it is.
    pub info: BdevInfo,
    /// Every byte of it.
    pub bytes: Vec<u8>,
    /// Which blocks are allocated.
    pub mapped: Vec<bool>,
    /// The status of the next I/O, instead of doing it.
    pub fail_next: Option<IoStatus>,
    /// How many compare-and-writes find that somebody else was there first.
    pub lose_swaps: u32,
    /// Every operation so far.
    pub log: Vec<Op>,
}

impl Disk {
    /// A disk of zeros.
    pub fn new(info: BdevInfo) -> Self {
        let bytes = info.length_blocks as usize * info.logical_block_bytes as usize;
        let mapped = vec![false; info.length_blocks as usize];
        Self { info, bytes: vec![0; bytes], mapped, fail_next: None, lose_swaps: 0, log: Vec::new() }
    }

    fn range(&self, extent: Extent) -> std::ops::Range<usize> {
        assert!(extent.end() <= self.info.length_blocks, "an operation past the end of the device");
        let block = self.info.logical_block_bytes as usize;
        extent.lba as usize * block..extent.end() as usize * block
    }

    fn map(&mut self, extent: Extent, mapped: bool) {
        self.mapped[extent.lba as usize..extent.end() as usize].fill(mapped);
    }

    /// Does one I/O.
    pub fn execute(&mut self, io: Io) -> Done {
        let Io { tag, op, mut sgl } = io;
        self.log.push(op);
        if let Some(status) = self.fail_next.take() {
            return Done { tag, status, sgl };
        }
        let status = self.perform(op, &mut sgl);
        Done { tag, status, sgl }
    }

    fn perform(&mut self, op: Op, sgl: &mut Sgl) -> IoStatus {
        let expect = |extent: Extent, times: usize, range: &std::ops::Range<usize>| {
            assert!(extent.length_blocks > 0, "an operation without blocks");
            assert_eq!(sgl.len(), range.len() * times, "the payload of {op:?}");
        };
        match op {
            Op::Read(extent) => {
                let range = self.range(extent);
                expect(extent, 1, &range);
                sgl.copy_in(0, &self.bytes[range]);
            }
            Op::Write { extent, .. } | Op::AtomicWrite { extent, .. } => {
                let range = self.range(extent);
                expect(extent, 1, &range);
                sgl.copy_out(0, &mut self.bytes[range]);
                self.map(extent, true);
            }
            Op::Flush => assert!(sgl.is_empty()),
            Op::Unmap(extent) => {
                let range = self.range(extent);
                expect(extent, 0, &range);
                self.bytes[range].fill(0);
                self.map(extent, false);
            }
            Op::WriteZeroes { extent, unmap, .. } => {
                let range = self.range(extent);
                expect(extent, 0, &range);
                self.bytes[range].fill(0);
                self.map(extent, !unmap);
            }
            Op::Compare(extent) => {
                let range = self.range(extent);
                expect(extent, 1, &range);
                return compare(&sgl.to_vec(), &self.bytes[range]);
            }
            Op::CompareAndWrite { extent, .. } => {
                let range = self.range(extent);
                expect(extent, 2, &range);
                let payload = sgl.to_vec();
                let (before, after) = payload.split_at(range.len());
                if self.lose_swaps > 0 {
                    self.lose_swaps -= 1;
                    return IoStatus::Miscompare { offset_bytes: 0 };
                }
                let status = compare(before, &self.bytes[range.clone()]);
                if status == IoStatus::Good {
                    self.bytes[range].copy_from_slice(after);
                    self.map(extent, true);
                }
                return status;
            }
            Op::OrWrite { extent, .. } => {
                let range = self.range(extent);
                expect(extent, 1, &range);
                self.bytes[range].iter_mut().zip(sgl.to_vec()).for_each(|(byte, with)| *byte |= with);
                self.map(extent, true);
            }
            Op::BlockStatus(extent) => {
                self.range(extent);
                let run = &self.mapped[extent.lba as usize..extent.end() as usize];
                let length = run.iter().take_while(|mapped| **mapped == run[0]).count();
                return IoStatus::Mapped { mapped: run[0], length_blocks: length as u64 };
            }
        }
        IoStatus::Good
    }
}

fn compare(payload: &[u8], blocks: &[u8]) -> IoStatus {
    match payload.iter().zip(blocks).position(|(left, right)| left != right) {
        Some(at) => IoStatus::Miscompare { offset_bytes: at as u64 },
        None => IoStatus::Good,
    }
}

/// A thin disk of `length_blocks` with a volatile cache.
pub fn info(logical_block_bytes: u32, length_blocks: u64) -> BdevInfo {
    BdevInfo {
        logical_block_bytes,
        physical_block_bytes: 4096,
        length_blocks,
        volatile_write_cache: true,
        thin: true,
        unmap_granularity_blocks: 4096 / logical_block_bytes,
        write_unit_blocks: 1,
        atomic_write_blocks: 256,
        uuid: uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
    }
}

/// What the bench's unit says about itself.
pub fn config() -> LuConfig {
    LuConfig {
        vendor: "VEGA".into(),
        product: "volume".into(),
        revision: "0001".into(),
        serial: "0123456789abcdef".into(),
        write_cache: WriteCachePolicy::Device,
        port_groups: Vec::new(),
    }
}

/// The name of the bench's nexus `number`.
pub fn name(number: u32) -> NexusName {
    NexusName {
        initiator_name: format!("iqn.2026-01.io.vega:host-{number}"),
        isid: [0x80, 0, 0, 0, 0, number as u8],
        target_name: "iqn.2026-01.io.vega:target".into(),
        portal_group_tag: 1,
        relative_target_port_id: 1,
    }
}

/// A logical unit, its disk and its memory.
#[derive(Debug)]
pub struct Bench {
    /// The unit.
    pub unit: LogicalUnit,
    /// Its disk.
    pub disk: Disk,
    /// Its memory.
    pub pool: BufferPool,
    /// The reservations of its volume.
    pub reservations: Rc<ReservationCell>,
    /// The last blob that was made durable.
    pub durable: Option<Vec<u8>>,
    /// Whether blobs can be made durable.
    pub store_works: bool,
    /// Whether the core may give memory; commands then start again until it does.
    pub retries: u32,
}

/// What a bench's commands move their data in.
fn buffers() -> BufferPool {
    BufferPool::heap(&[SizeClass { bytes: 8 << 10, count: 64 }, SizeClass { bytes: 1 << 20, count: 10 }])
}

thread_local! {
    /// The buffers of the fuzz target: to make them takes longer than all that it does with them.
    static FUZZED_BUFFERS: BufferPool = buffers();
}

impl Bench {
    /// A bench with nexuses 1 and 2, which have heard that the unit is there.
    pub fn new(info: BdevInfo) -> Self {
        Self::with(config(), info, None)
    }

    /// A bench after a restart, with what was durable.
    pub fn with(config: LuConfig, info: BdevInfo, durable: Option<Vec<u8>>) -> Self {
        Self::over(buffers(), config, info, durable)
    }

    fn over(pool: BufferPool, config: LuConfig, info: BdevInfo, durable: Option<Vec<u8>>) -> Self {
        let stored = durable.as_deref().map(Reservations::decode).transpose();
        let stored = stored.expect("our own blob can be read").unwrap_or_default();
        let reservations = Rc::new(ReservationCell::new(stored));
        let unit = LogicalUnit::new(config, info, Rc::clone(&reservations));
        let disk = Disk::new(info);
        let mut bench = Self { unit, disk, pool, reservations, durable, store_works: true, retries: 0 };
        for number in 1..=2 {
            bench.attach(number);
        }
        bench
    }

    /// Attaches a nexus and takes its first unit attention.
    pub fn attach(&mut self, number: u32) {
        assert!(self.unit.attach(NexusId(number), name(number)));
        let response = self.run(number, &[0; 6], &[]);
        assert_eq!(response.sense[12], 0x29, "a new nexus hears that the unit has come up");
    }

    /// Attaches a nexus and takes its first unit attention by REQUEST SENSE, which every unit answers.
    pub fn attach_quietly(&mut self, number: u32) {
        assert!(self.unit.attach(NexusId(number), name(number)));
        drop(self.run(number, &[0x03, 0, 0, 0, 18, 0], &[]));
    }

    /// Runs a command whose initiator announces exactly what it sends or has room for.
    pub fn run(&mut self, nexus: u32, cdb: &[u8], data_out: &[u8]) -> Response {
        let expected = if data_out.is_empty() { u32::MAX } else { data_out.len() as u32 };
        self.run_expecting(nexus, cdb, data_out, expected, data_out.is_empty())
    }

    /// Runs a command to its end and checks everything that holds for all commands.
    pub fn run_expecting(
        &mut self,
        nexus: u32,
        cdb: &[u8],
        data_out: &[u8],
        expected: u32,
        read: bool,
    ) -> Response {
        let wanted = self.unit.data_out_length(cdb);
        let arrives = data_out.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
        let mut payload = self.pool.alloc(arrives).expect("the bench has memory for what arrives");
        payload.copy_in(0, &data_out[..arrives]);
        let mut padded: SmallVec<[u8; 16]> = SmallVec::from_slice(cdb);
        padded.resize(cdb.len().max(16), 0);
        let command = Command {
            task: 7,
            nexus: NexusId(nexus),
            cdb: padded,
            data_out: payload,
            expected_data_transfer_length: expected,
            read,
            write: !read,
        };
        let context = Context { buffers: &self.pool, luns: &LUNS };
        let first = self.unit.start(command, &context);
        let response = self.finish(first);
        check_response(cdb, wanted, &response);
        response
    }

    /// What the volume does with a change.
    fn change(&mut self, change: &ReservationChange) -> Response {
        let applied = self.reservations.read().apply(&change.path, &change.change);
        let (next, outcome) = match applied {
            Ok(applied) => applied,
            Err(refused) => return self.unit.change_ended(change, Err(ChangeError::Refused(refused))),
        };
        let blob = next.encode();
        if blob != self.reservations.read().encode() {
            if !self.store_works {
                return self.unit.change_ended(change, Err(ChangeError::NotDurable));
            }
            self.durable = Some(blob);
        }
        self.reservations.replace(next);
        self.unit.change_ended(change, Ok(&outcome))
    }

    /// Runs at most `steps` I/Os of the background operation. `None`: it is not over; else whom it
    /// answers.
    pub fn drive_background(&mut self, steps: usize) -> Option<Option<(u64, Response)>> {
        for _ in 0..steps {
            match self.unit.background(BACKGROUND_TAG, &self.pool) {
                Background::Io(io) => {
                    assert_eq!(io.tag, BACKGROUND_TAG);
                    let done = self.disk.execute(io);
                    self.unit.background_done(done);
                }
                Background::Wait => panic!("the bench has memory"),
                Background::End(answer) => {
                    assert!(!self.unit.has_background(), "an end is an end");
                    return Some(answer);
                }
            }
        }
        None
    }

    fn finish(&mut self, mut step: Step) -> Response {
        for _ in 0..100_000 {
            step = match step {
                Step::Respond(response) => return response,
                Step::Io(io, pending) => {
                    assert_eq!(io.tag, 7, "an I/O carries its task");
                    let done = self.disk.execute(io);
                    self.unit.resume(pending, done, &self.pool)
                }
                Step::Change(change) => return self.change(&change),
                Step::Background(Some(response)) => return response,
                Step::Background(None) => {
                    let answer = self.drive_background(usize::MAX).expect("an operation has an end");
                    let (task, response) = answer.expect("the command that waits is answered");
                    assert_eq!(task, 7, "the answer is for the command that waits");
                    return response;
                }
                Step::Retry(_) => panic!("the bench has memory"),
                Step::RetryPending(pending) => {
                    self.retries += 1;
                    self.unit.retry(pending, &self.pool)
                }
            };
        }
        panic!("a command has no end");
    }
}

/// What holds for every response.
fn check_response(cdb: &[u8], wanted: u64, response: &Response) {
    assert_eq!(response.data_out_len, wanted, "the residual is that of the CDB");
    assert!(response.sense.len() <= SENSE_BYTES_MAX);
    assert_eq!(response.sense.is_empty(), response.status != Status::CheckCondition);
    assert!(response.data_in.len() as u64 <= response.data_in_len);
    if let Some(allocation_length) = allocation_length(cdb) {
        assert!(
            response.data_in.len() as u64 <= allocation_length,
            "{cdb:02x?} gave more than there is room for"
        );
    }
}

/// The allocation length of a command that has one.
pub fn allocation_length(cdb: &[u8]) -> Option<u64> {
    let at = |index: usize| u64::from(cdb.get(index).copied().unwrap_or(0));
    let number =
        |from: usize, bytes: usize| (from..from + bytes).fold(0, |value, index| value << 8 | at(index));
    Some(match cdb.first()? {
        0x03 | 0x1a => number(4, 1),
        0x12 => number(3, 2),
        0x37 | 0x4d | 0x5a | 0x5e => number(7, 2),
        0x9e => number(10, 4),
        0xa0 | 0xa3 | 0xb7 => number(6, 4),
        _ => return None,
    })
}

/// The statuses that a fuzzed disk gives.
const FAILURES: [IoStatus; 5] = [
    IoStatus::ReadError { lba: 3 },
    IoStatus::WriteError { lba: u64::MAX },
    IoStatus::NoSpace,
    IoStatus::Aborted,
    IoStatus::Gone,
];

/// Runs what `data` describes; panics on anything that must never happen.
///
/// Input: one byte for the device, then commands of 20 bytes: nexus and events, failure of the first
/// I/O, length and value of the data sent, and the CDB. Between commands a sanitize operation that has
/// begun goes on for as many steps as the length says.
pub fn cdb(data: &[u8]) {
    let Some((shape, mut rest)) = data.split_first() else { return };
    let mut device = if shape & 1 == 0 { info(512, 2048) } else { info(4096, 256) };
    device.thin = shape & 2 == 0;
    device.volatile_write_cache = shape & 4 == 0;
    device.atomic_write_blocks = if shape & 8 == 0 { 256 } else { 1 };
    let mut bench = Bench::over(FUZZED_BUFFERS.with(Clone::clone), config(), device, None);
    while let Some((head, tail)) = rest.split_first_chunk::<20>() {
        rest = tail;
        let [who, failure, length, value, command @ ..] = head;
        let nexus = 1 + u32::from(who & 1);
        match who >> 4 {
            1 => bench.unit.reset(Some(NexusId(nexus))),
            2 => bench.unit.queue_unit_attention_all(UnitAttention::CapacityChanged, None),
            3 => {
                bench.unit.detach(NexusId(nexus));
                bench.attach(nexus);
            }
            _ => {}
        }
        bench.disk.fail_next = FAILURES.get(usize::from(*failure)).copied();
        bench.store_works = who & 8 == 0;
        // The data: a pattern, or as a parameter list, the next bytes of the input.
        let mut payload = vec![*value; usize::from(*length) * 64];
        let copied = payload.len().min(rest.len());
        if who & 4 == 0 {
            payload[..copied].copy_from_slice(&rest[..copied]);
        }
        drop(bench.run_expecting(nexus, command, &payload, payload.len() as u32, who & 2 == 0));
        if bench.unit.has_background() {
            check_only_harmless_commands_run(&mut bench);
            drop(bench.drive_background(usize::from(*length)));
        }
        assert_eq!(bench.pool.in_use(), 0, "a buffer did not come home");
    }
}

/// While a medium is sanitized nothing reads or writes it, and whoever asks hears how far it is.
fn check_only_harmless_commands_run(bench: &mut Bench) {
    let before = bench.disk.log.len();
    bench.attach_quietly(3);
    for cdb in [&[0_u8; 6][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0x1b, 0, 0, 0, 1, 0]] {
        let sense = bench.run(3, cdb, &[]).sense;
        assert!(is_in_progress(&sense), "{cdb:02x?}: {sense:02x?}");
    }
    let polled = bench.run(3, &[0x03, 0, 0, 0, 18, 0], &[]);
    assert!(matches!(polled.data_in, crate::DataIn::Bytes(sense) if is_in_progress(&sense)));
    bench.unit.detach(NexusId(3));
    assert_eq!(bench.disk.log.len(), before, "a command got through to the medium");
}

/// 02/04/1B with a progress indication, in either format.
fn is_in_progress(sense: &[u8]) -> bool {
    match sense[0] & 0x7f {
        0x70 => sense[2] == 2 && sense[12..14] == [0x04, 0x1b] && sense[15] == 0x80,
        _ => sense[1..4] == [2, 0x04, 0x1b] && sense[8] == 0x02,
    }
}
