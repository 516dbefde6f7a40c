//! How many commands per second one core serves over one TCP connection: `load [read|write] [bytes] [depth] [seconds]`.
//!
//! The target runs on its own thread with a memory volume; this thread is the host. Both should have a processor to
//! themselves; then the first number printed is that of the slower of the two. The second is what the target's turns
//! with work cost in processor time, system calls included, which holds on a busy machine as well.

#![forbid(unsafe_code)]

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nvme_spec::fabrics::{
    CATTR_DISABLE_SQ_FLOW_CONTROL, Connect, ConnectData, ConnectResult, PropertySet, nqn_field,
};
use nvme_spec::nvm::IoControl;
use nvme_spec::register::CC;
use nvme_spec::{Cqe, NvmOpcode, Sqe};
use nvmf_proto::{HostConfig, HostData, HostEvent, HostQueue, Payload};
use nvmf_target::message::CoreMessage;
use nvmf_target::setup::{NamespaceSetup, Settings, SubsystemSetup};
use nvmf_target::{NvmfCore, Portal};
use reactor::core::{Core, CoreConfig, CoreId, spawn_core};
use reactor::idle::IdlePolicy;
use reactor::mesh::Mesh;
use reactor::poller::{Poller, Progress};
use reactor::time::Time;
use volume::geometry::Geometry;
use volume::memory::MemoryDevice;
use volume::metadata::MemoryStore;
use volume::shared::{Registry, VolumeSetup};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

const NQN: &str = "nqn.2024-01.io.vega:load";
const VOLUME_BYTES: u64 = 64 << 20;

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

struct Host {
    stream: TcpStream,
    queue: HostQueue<Bytes>,
    scratch: Vec<u8>,
}

impl Host {
    fn connect(to: SocketAddr, qid: u16, cntlid: u16, entries: u16) -> (Self, Cqe) {
        let stream = TcpStream::connect(to).expect("the target listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_nonblocking(true).expect("a TCP socket");
        let config =
            HostConfig { commands_max: entries - 1, in_capsule_bytes: 16384, ..HostConfig::default() };
        let mut host = Self { stream, queue: HostQueue::new(config), scratch: vec![0; 1 << 18] };
        while host.queue.negotiated().is_none() {
            host.turn(|_, _| {});
        }
        let command = Connect {
            qid: U16::new(qid),
            sqsize: U16::new(entries - 1),
            cattr: CATTR_DISABLE_SQ_FLOW_CONTROL,
            ..Connect::command()
        };
        let data = ConnectData {
            hostid: [1; 16],
            cntlid: U16::new(cntlid),
            subnqn: nqn_field(NQN).expect("a name"),
            hostnqn: nqn_field("nqn.2024-01.io.vega:host").expect("a name"),
            ..ConnectData::default()
        };
        let cqe = host.exec(*command.as_sqe(), HostData::Write(Bytes(data.as_bytes().to_vec())));
        assert!(cqe.status().is_success(), "{}", cqe.status());
        (host, cqe)
    }

    fn exec(&mut self, sqe: Sqe, data: HostData<Bytes>) -> Cqe {
        let cid = self.queue.submit(sqe, data).ok().expect("there is room");
        let mut found = None;
        while found.is_none() {
            self.turn(|_, completion| {
                if completion.cid == cid {
                    found = Some(completion.cqe);
                }
            });
        }
        found.expect("looked at above")
    }

    /// Sends what waits, receives what is there; calls `each` with every completion.
    fn turn(&mut self, mut each: impl FnMut(&mut HostQueue<Bytes>, nvmf_proto::Completion<Bytes>)) {
        loop {
            let mut vectors = [IoSlice::new(&[]); 64];
            let count = self.queue.tx_chunks(&mut vectors);
            if count == 0 {
                break;
            }
            match self.stream.write_vectored(&vectors[..count]) {
                Ok(sent) => self.queue.tx_advance(sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        match self.stream.read(&mut self.scratch) {
            Ok(0) => panic!("the target closed"),
            Ok(received) => self.queue.handle_bytes(&self.scratch[..received]).expect("a sound target"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        while let Some(event) = self.queue.next_event() {
            if let HostEvent::Completed(completion) = event {
                each(&mut self.queue, completion);
            }
        }
    }
}

/// Processor time of this thread.
fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has the clock of a thread");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Adds up the processor time of the target's turns with work.
struct Measured {
    target: NvmfCore,
    busy_ns: Arc<AtomicU64>,
}

impl Poller for Measured {
    fn name(&self) -> &'static str {
        self.target.name()
    }

    fn poll(&mut self, now: Time, budget: u32) -> Progress {
        let before = thread_ns();
        let progress = self.target.poll(now, budget);
        if progress == Progress::Busy {
            self.busy_ns.fetch_add(thread_ns() - before, Ordering::Relaxed);
        }
        progress
    }

    fn deadline(&self) -> Time {
        self.target.deadline()
    }

    fn may_sleep(&self) -> bool {
        self.target.may_sleep()
    }
}

fn set_up(core: &Core, told: &mpsc::Sender<SocketAddr>, busy_ns: Arc<AtomicU64>) -> Vec<Box<dyn Poller>> {
    let endpoint = Mesh::new(1, 16).pop().expect("one core");
    let control = endpoint.control_sender();
    let registry = Registry::new();
    let geometry = Geometry::new(uuid::Uuid::from_u128(1), 4096, VOLUME_BYTES).expect("a valid geometry");
    let setup = VolumeSetup {
        name: "v".into(),
        serial: "1".into(),
        channel: Box::new(move |_| Ok(Box::new(MemoryDevice::new(geometry)))),
        metadata: Box::new(|_| Ok(Box::<MemoryStore>::default())),
        reservations: Vec::new(),
    };
    registry.add(core, setup).expect("it opens");
    let listener = core.network.listen("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    told.send(listener.local()).expect("the host waits");
    let portals = vec![Portal { listener, port_id: 1 }];
    let target = NvmfCore::new(core, Settings::default(), endpoint, portals, registry);
    let mut setup = SubsystemSetup::new(NQN, "1");
    setup.namespaces.insert(1, NamespaceSetup::new("v"));
    let message =
        CoreMessage::SetSubsystem { setup: Box::new(setup), answer: Box::new(|set| set.expect("it is set")) };
    assert!(control.send(message).is_ok());
    vec![Box::new(Measured { target, busy_ns })]
}

#[expect(clippy::print_stdout, reason = "a tool for people")]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize, default: &str| args.get(at).cloned().unwrap_or_else(|| default.into());
    let writes = arg(0, "read") == "write";
    let bytes: usize = arg(1, "4096").parse().expect("bytes");
    let depth: usize = arg(2, "128").parse().expect("a depth");
    let seconds: u64 = arg(3, "3").parse().expect("seconds");
    let (told, address) = mpsc::channel();
    let config = CoreConfig { core: Some(CoreId(0)), idle: IdlePolicy::Poll, ..CoreConfig::new("target") };
    let busy_ns = Arc::new(AtomicU64::new(0));
    let its_busy_ns = Arc::clone(&busy_ns);
    let thread = spawn_core(config, move |core| set_up(core, &told, its_busy_ns)).expect("a core");
    let address = address.recv().expect("the target starts");
    let _ = core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
    let (mut admin, cqe) = Host::connect(address, 0, 0xffff, 32);
    let set = PropertySet {
        offset: U32::new(CC),
        value: U64::new(1 | 6 << 16 | 4 << 20),
        ..PropertySet::command()
    };
    admin.exec(*set.as_sqe(), HostData::None);
    let (mut io, _) = Host::connect(address, 1, ConnectResult::of(&cqe).cntlid, 1024);
    let blocks = (bytes / 4096) as u32;
    let mut lba = 0;
    let mut next = move |payload: Bytes| {
        lba = (lba + 7919 * u64::from(blocks)) % (VOLUME_BYTES / 4096 - u64::from(blocks));
        if writes {
            (Sqe::io(NvmOpcode::WRITE, 1, lba, blocks, IoControl::NONE), HostData::Write(payload))
        } else {
            (Sqe::io(NvmOpcode::READ, 1, lba, blocks, IoControl::NONE), HostData::Read(payload))
        }
    };
    // The volume has its memory before the clock runs.
    for at in 0..VOLUME_BYTES / 4096 / 256 {
        let sqe = Sqe::io(NvmOpcode::WRITE, 1, at * 256, 256, IoControl::NONE);
        assert!(io.exec(sqe, HostData::Write(Bytes(vec![1; 1 << 20]))).status().is_success());
    }
    for _ in 0..depth {
        let (sqe, data) = next(Bytes(vec![1; bytes]));
        io.queue.submit(sqe, data).ok().expect("there is room");
    }
    let (start, mut done) = (Instant::now(), 0u64);
    let before_ns = busy_ns.load(Ordering::Relaxed);
    while start.elapsed() < Duration::from_secs(seconds) {
        io.turn(|queue, completion| {
            assert!(completion.cqe.status().is_success());
            done += 1;
            let (sqe, data) = next(completion.data.expect("it was submitted with one"));
            queue.submit(sqe, data).ok().expect("one ended");
        });
    }
    let elapsed = start.elapsed();
    let spent_ns = busy_ns.load(Ordering::Relaxed) - before_ns;
    let per_second = done as f64 / elapsed.as_secs_f64();
    let cost_ns = spent_ns as f64 / done as f64;
    println!(
        "{per_second:.0} IOPS, {:.2} GB/s; {cost_ns:.0} ns per command: {:.0} IOPS for a core that does nothing else",
        per_second * bytes as f64 / 1e9,
        1e9 / cost_ns
    );
    thread.stop();
}
