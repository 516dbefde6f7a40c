//! The building blocks of an I/O, each alone.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::IoSlice;
use std::rc::Rc;
use std::time::Duration;

use iscsi_proto::params::Negotiated;
use iscsi_proto::pdu::BHS_BYTES;
use iscsi_proto::session::{Completion, ConnectionParams, Event, Host, Payload, Session, SessionConfig};
use reactor::buffer::{BufferPool, Sgl, SizeClass};
use reactor::ring::ring;
use reactor::time::Time;
use reactor::timer::TimerWheel;
use scsi::{Command, Context, LogicalUnit, LuConfig, NexusId, NexusName, Step, WriteCachePolicy};
use smallvec::SmallVec;
use volume::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};
use volume::geometry::Geometry;
use volume::memory::MemoryDevice;
use volume::volume::Volume;

/// Bytes of every payload here.
pub const BLOCK_BYTES: usize = 4096;
/// The unit's logical blocks: of 512 bytes, eight to a payload.
pub const LOGICAL_BLOCKS: u64 = BLOCK_BYTES as u64 / 512;
/// Size of the unit: small, so that filling it costs little; a count knows no cache.
pub const UNIT_BYTES: u64 = 4 << 20;
const POOL_BYTES: usize = 8 << 20;

pub fn ring_one(iterations: u64) {
    let (mut producer, mut consumer) = ring::<u64>(64);
    for item in 0..iterations {
        producer.push(black_box(item)).expect("the ring is empty");
        black_box(consumer.pop());
    }
}

pub fn ring_batch(iterations: u64) {
    let (mut producer, mut consumer) = ring::<u64>(64);
    let (mut items, mut out) = (VecDeque::with_capacity(32), Vec::with_capacity(32));
    for _ in 0..iterations {
        items.extend(0..32_u64);
        producer.push_batch(black_box(&mut items));
        consumer.pop_batch(&mut out, 32);
        black_box(&out);
        out.clear();
    }
}

fn pool() -> BufferPool {
    BufferPool::heap(&SizeClass::for_budget(POOL_BYTES))
}

fn payload(pool: &BufferPool) -> Sgl {
    pool.alloc(BLOCK_BYTES).expect("the pool is larger than what is in flight")
}

pub fn buffer(iterations: u64) {
    let pool = pool();
    for _ in 0..iterations {
        drop(black_box(payload(&pool)));
    }
}

pub fn timer(iterations: u64) {
    let mut wheel = TimerWheel::new();
    for at in 0..iterations {
        let due = Time::from_ns(at).after(Duration::from_secs(1));
        let id = wheel.insert(due, at);
        black_box(wheel.cancel(id));
    }
}

/// A memory volume in which every block was written.
pub fn device() -> MemoryDevice {
    let geometry = Geometry::new(uuid::Uuid::from_u128(1), 512, UNIT_BYTES).expect("a valid geometry");
    let pool = pool();
    let mut device = MemoryDevice::new(geometry);
    for place in 0..UNIT_BYTES / BLOCK_BYTES as u64 {
        let mut sgl = payload(&pool);
        sgl.fill(0, BLOCK_BYTES, 0xa5);
        let done =
            finish(&mut device, Io { tag: place, op: Op::Write { extent: extent(place), fua: false }, sgl });
        assert!(done.status.is_good(), "memory takes every write");
    }
    device
}

/// The `place`-th payload of the unit, from the start again after its end.
fn extent(place: u64) -> Extent {
    let places = UNIT_BYTES / BLOCK_BYTES as u64;
    Extent { lba: place % places * LOGICAL_BLOCKS, length_blocks: LOGICAL_BLOCKS }
}

/// Submits an I/O and polls until it is back.
fn finish(channel: &mut impl IoChannel, io: Io) -> Done {
    if let Some(done) = channel.submit(io) {
        return done;
    }
    let mut out = Vec::with_capacity(1);
    while out.is_empty() {
        channel.poll(&mut out, 1);
    }
    out.pop().expect("not empty")
}

pub fn volume_read(iterations: u64) {
    let pool = pool();
    let mut volume = Volume::new(Box::new(device()), &pool).expect("memory for its reserve");
    for place in 0..iterations {
        let io = Io { tag: place, op: Op::Read(extent(place)), sgl: payload(&pool) };
        black_box(finish(&mut volume, io).status.is_good());
    }
}

pub fn volume_write(iterations: u64) {
    let pool = pool();
    let mut volume = Volume::new(Box::new(device()), &pool).expect("memory for its reserve");
    for place in 0..iterations {
        let op = Op::Write { extent: extent(place), fua: false };
        black_box(finish(&mut volume, Io { tag: place, op, sgl: payload(&pool) }).status.is_good());
    }
}

/// The CDB of READ (16) or WRITE (16) of one payload.
pub fn cdb(opcode: u8, place: u64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..10].copy_from_slice(&extent(place).lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&(LOGICAL_BLOCKS as u32).to_be_bytes());
    cdb
}

pub fn scsi_read(iterations: u64) {
    let pool = pool();
    let config = LuConfig {
        vendor: "VEGA".into(),
        product: "ICOUNT".into(),
        revision: "1".into(),
        serial: "1".into(),
        write_cache: WriteCachePolicy::default(),
        port_groups: Vec::new(),
    };
    let mut unit = LogicalUnit::new(config, device().info(), Rc::default());
    let nexus = NexusId(1);
    let name = NexusName {
        initiator_name: "iqn.2026-01.io.vega:initiator".into(),
        isid: [0x80, 0, 0, 0, 0, 1],
        target_name: "iqn.2026-01.io.vega:target".into(),
        portal_group_tag: 1,
        relative_target_port_id: 1,
    };
    assert!(unit.attach(nexus, name), "one nexus fits");
    let context = Context { buffers: &pool, luns: &[0] };
    // The first one hears of the power-on.
    for place in 0..=iterations {
        let command = Command {
            task: place,
            nexus,
            cdb: SmallVec::from_slice(&cdb(0x88, place)),
            data_out: Sgl::empty(),
            expected_data_transfer_length: BLOCK_BYTES as u32,
            read: true,
            write: false,
        };
        if let Step::Io(io, pending) = unit.start(black_box(command), &context) {
            let done = Done { tag: io.tag, status: IoStatus::Good, sgl: io.sgl };
            black_box(unit.resume(pending, done, &pool));
        }
    }
}

/// A payload without a pool.
struct Bytes(Vec<u8>);

impl Payload for Bytes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn chunk(&self, offset_bytes: usize) -> &[u8] {
        &self.0[offset_bytes..]
    }

    fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        &mut self.0[offset_bytes..]
    }
}

struct NoData;

impl Host for NoData {
    type Payload = Bytes;

    fn data_out_length(&mut self, _lun: u64, _cdb: &[u8]) -> u64 {
        0
    }

    fn alloc(&mut self, length_bytes: usize) -> Option<Bytes> {
        Some(Bytes(vec![0; length_bytes]))
    }
}

/// The header of a SCSI command (RFC 7143, 11.3), with `immediate_bytes` of data to follow.
pub fn command_header(cmd_sn: u32, cdb: [u8; 16], write: bool, immediate_bytes: usize) -> [u8; BHS_BYTES] {
    let mut header = [0; BHS_BYTES];
    header[0] = 0x01;
    header[1] = if write { 0xa1 } else { 0xc1 };
    header[4..8].copy_from_slice(&(immediate_bytes as u32).to_be_bytes());
    header[16..20].copy_from_slice(&(cmd_sn & 0xffff).to_be_bytes());
    header[20..24].copy_from_slice(&(BLOCK_BYTES as u32).to_be_bytes());
    header[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
    header[32..].copy_from_slice(&cdb);
    header
}

pub fn pdu_command(iterations: u64) {
    let negotiated = Negotiated::default();
    let mut session: Session<Bytes> =
        Session::new(SessionConfig::default(), iscsi_proto::params::SessionType::Normal, &negotiated, 1);
    let params = ConnectionParams { cid: 0, stat_sn: 1, negotiated };
    let connection = session.add_connection(&params, 0).expect("the first connection");
    for place in 0..iterations {
        let header = command_header(1 + place as u32, cdb(0x88, place), false, 0);
        session.handle_bytes(connection, 0, black_box(&header), &mut NoData).expect("a valid command");
        let Some(Event::Command(command)) = session.poll_event() else { panic!("a command was complete") };
        session.complete(command.task, Completion::good(0));
        let mut slices = [IoSlice::new(&[]); 4];
        let count = session.tx_slices(connection, &mut slices);
        let sent = slices[..count].iter().map(|slice| slice.len()).sum();
        session.tx_advance(connection, black_box(sent));
    }
}
