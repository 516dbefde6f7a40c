//! A small target for tests, in a simulated world: correct by default, wrong or slow on request.
//!
//! One [`TestTarget`] is one subsystem with one namespace behind several ports; each port has its own ANA state and script.

mod controller;
mod medium;
mod port;
mod spoil;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use nvme_spec::Status;
use nvme_spec::ae::AsynchronousEvent;
use nvme_spec::log::AnaState;
use reactor::sim::SimWorld;

use port::Port;
pub use spoil::Spoil;

pub const SUBSYSTEM_NQN: &str = "nqn.2014-08.org.example:remote";
pub const UUID: [u8; 16] = [0x5e; 16];

/// What a port does wrong, and what it has seen.
#[derive(Default)]
pub struct Script {
    /// Write commands are taken and not executed until [`TestTarget::release`].
    pub hold_writes: bool,
    /// I/O commands are not answered at all.
    pub silent: bool,
    /// Admin commands (Keep Alive too) are not answered.
    pub silent_admin: bool,
    /// CC.EN = 0 is never followed by RDY = 0.
    pub never_resets: bool,
    /// RDY never follows EN.
    pub never_ready: bool,
    /// Connect is refused with this.
    pub refuse: Option<Status>,
    /// Compare is not offered, whatever the others offer.
    pub no_compare: bool,
    /// Each compare is answered with a failure, though the blocks are equal.
    pub lies_about_compare: bool,
    /// The second command of a pair is taken and not answered.
    pub holds_second: bool,
    /// The next I/O command (of a pair, the first) is answered with this, once.
    pub fail_next: Option<Status>,
    /// The next I/O command is answered with a CID that is not in flight, once.
    pub wrong_cid: bool,
    /// Connect is answered with AUTHREQ.
    pub authreq: u16,
    /// Whatever it says is wrong now and then.
    pub spoil: Option<Spoil>,
    /// Namespace UUID to show instead of the right one.
    pub other_uuid: Option<[u8; 16]>,
    /// Records of the discovery log page, and how often its generation changes after its header was read.
    pub discovery_records: u64,
    pub discovery_changes: u32,
    pub generation: u64,
    /// Opcodes of the I/O commands that came.
    pub seen: Vec<u8>,
    /// Keep Alive commands that came.
    pub keep_alives: u32,
    /// Connects of admin queues that came.
    pub connects: u32,
}

/// What all ports share.
pub struct Shared {
    pub media: Vec<u8>,
    pub block_bytes: u32,
    pub length_blocks: u64,
    pub cqt_ms: u16,
    pub mdts: u8,
    pub ana: bool,
    /// Blocks of a fused compare and write, and 0 without Compare.
    pub compare_and_write_blocks: u32,
    pub traffic_based: bool,
    pub next_cntlid: u16,
}

pub struct TestTarget {
    pub shared: Rc<RefCell<Shared>>,
    ports: Vec<Port>,
}

impl TestTarget {
    /// A namespace of `length_bytes` behind one port for each address.
    pub fn new(world: &SimWorld, addresses: &[SocketAddr], block_bytes: u32, length_bytes: u64) -> Self {
        let shared = Shared {
            media: vec![0; length_bytes as usize],
            block_bytes,
            length_blocks: length_bytes / u64::from(block_bytes),
            cqt_ms: 1000,
            mdts: 8,
            ana: true,
            compare_and_write_blocks: 16,
            traffic_based: true,
            next_cntlid: 1,
        };
        let shared = Rc::new(RefCell::new(shared));
        let ports = addresses.iter().map(|address| Port::new(world, *address, &shared)).collect();
        Self { shared, ports }
    }

    pub fn script(&mut self, port: usize) -> &mut Script {
        &mut self.ports[port].script
    }

    /// One turn of every port.
    pub fn poll(&mut self) {
        self.ports.iter_mut().for_each(Port::poll);
    }

    /// Changes the state of a port, and tells its controllers.
    pub fn set_ana(&mut self, port: usize, state: AnaState, tell: bool) {
        self.ports[port].ana_state = state;
        if tell {
            self.ports[port].report(AsynchronousEvent::ANA_CHANGE);
        }
    }

    /// Changes the size of the namespace, and tells all controllers.
    pub fn resize(&mut self, length_blocks: u64) {
        {
            let shared = &mut *self.shared.borrow_mut();
            shared.length_blocks = length_blocks;
            shared.media.resize((length_blocks * u64::from(shared.block_bytes)) as usize, 0);
        }
        for port in &mut self.ports {
            port.report(AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED);
        }
    }

    /// Breaks every connection of a port; `queue` names one kind only (0 the admin queues).
    pub fn cut(&mut self, port: usize, queue: Option<u16>) {
        self.ports[port].cut(queue);
    }

    /// Stops or starts listening.
    pub fn set_listening(&mut self, port: usize, listening: bool) {
        self.ports[port].set_listening(listening);
    }

    /// Executes the writes that were held, also those whose connection is gone: a target that is late.
    pub fn release(&mut self, port: usize) -> usize {
        self.ports[port].release()
    }
}
