//! Remote namespaces against the test target, in a simulated world.

mod compare;
mod connecting;
mod discovery;
mod failover;
mod hostile;
mod io;

use std::net::SocketAddr;
use std::time::Duration;

use reactor::buffer::Sgl;
use reactor::core::Core;
use reactor::poller::Poller;
use reactor::sim::{NetFaults, SimWorld};
use reactor::time::Time;
use volume::bdev::{Done, Extent, Io, IoChannel, IoStatus, Op};

use crate::config::HostIdentity;
use crate::testing::{SUBSYSTEM_NQN, TestTarget};
use crate::{Host, Namespace, RemoteConfig};

const LENGTH_BYTES: u64 = 8 << 20;
/// One step of the clock between turns.
const STEP: Duration = Duration::from_millis(1);

struct Rig {
    world: SimWorld,
    core: Core,
    host: Host,
    target: TestTarget,
    namespace: Namespace,
    next_tag: u64,
    answered: Vec<Done>,
}

fn addresses(count: usize) -> Vec<SocketAddr> {
    (0..count).map(|index| SocketAddr::from(([10, 0, 0, 1 + index as u8], 4420))).collect()
}

fn identity() -> HostIdentity {
    HostIdentity { nqn: "nqn.2014-08.org.example:host".to_owned(), id: [9; 16] }
}

fn config(paths: usize) -> RemoteConfig {
    RemoteConfig::new(SUBSYSTEM_NQN, 1, identity(), addresses(paths))
}

impl Rig {
    /// A namespace over so many paths, not connected yet.
    fn begin(paths: usize, prepare: impl FnOnce(&mut TestTarget, &mut RemoteConfig)) -> Self {
        let world = SimWorld::new(7);
        world.set_net_faults(NetFaults { cut_permille: 100, ..NetFaults::none() });
        world.set_auto_advance(false);
        Self::begin_in(world, paths, 4096, prepare)
    }

    fn begin_in(
        world: SimWorld,
        paths: usize,
        block_bytes: u32,
        prepare: impl FnOnce(&mut TestTarget, &mut RemoteConfig),
    ) -> Self {
        let core = world.core("host");
        let mut target = TestTarget::new(&world, &addresses(paths), block_bytes, LENGTH_BYTES);
        let mut config = config(paths);
        prepare(&mut target, &mut config);
        let host = Host::new(&core);
        let namespace = host.handle().open(config).expect("a good configuration");
        Self { world, core, host, target, namespace, next_tag: 1, answered: Vec::new() }
    }

    /// As [`Rig::begin`], and waits until every path is live.
    fn new(paths: usize) -> Self {
        let mut rig = Self::begin(paths, |_, _| {});
        rig.until("every path is live", |rig| rig.namespace.paths().iter().all(|path| path.access.is_some()));
        rig
    }

    fn now(&self) -> Time {
        self.world.now()
    }

    fn turn(&mut self) {
        let now = self.now();
        self.host.poll(now, 32);
        self.target.poll();
        self.namespace.poll(&mut self.answered, 32);
        self.world.advance(STEP);
    }

    fn turns(&mut self, count: u32) {
        (0..count).for_each(|_| self.turn());
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..200_000 {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("never: {what}; paths {:?}", self.namespace.paths());
    }

    /// With whatever the buffers hold.
    fn submit_blocks(&mut self, op: Op, block_bytes: u32) -> u64 {
        let sgl = self.core.buffers.alloc(op.payload_bytes(block_bytes) as usize).expect("memory");
        self.submit_sgl(op, sgl)
    }

    fn submit(&mut self, op: Op, bytes: &[u8]) -> u64 {
        let mut sgl = self.core.buffers.alloc(op.payload_bytes(4096) as usize).expect("memory");
        if !bytes.is_empty() {
            sgl.copy_in(0, bytes);
        }
        self.submit_sgl(op, sgl)
    }

    fn submit_sgl(&mut self, op: Op, sgl: Sgl) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        if let Some(done) = self.namespace.submit(Io { tag, op, sgl }) {
            self.answered.push(done);
        }
        tag
    }

    fn write(&mut self, lba: u64, byte: u8) -> u64 {
        let extent = Extent { lba, length_blocks: 1 };
        self.submit(Op::Write { extent, fua: false }, &[byte; 4096])
    }

    fn read(&mut self, lba: u64) -> u64 {
        self.submit(Op::Read(Extent { lba, length_blocks: 1 }), &[])
    }

    fn take(&mut self, tag: u64) -> Option<Done> {
        let at = self.answered.iter().position(|done| done.tag == tag)?;
        Some(self.answered.swap_remove(at))
    }

    fn wait(&mut self, tag: u64) -> Done {
        let mut found = None;
        self.until("the answer", |rig| {
            found = rig.take(tag);
            found.is_some()
        });
        found.expect("just found")
    }

    fn wait_good(&mut self, tag: u64) -> Sgl {
        let done = self.wait(tag);
        assert_eq!(done.status, IoStatus::Good);
        done.sgl
    }

    /// The first byte of a block, read from the namespace.
    fn first_byte(&mut self, lba: u64) -> u8 {
        let tag = self.read(lba);
        self.wait_good(tag).chunk(0)[0]
    }
}
