//! Volumes with several ports: who gets which answer, who hears of which change, and how a volume ends.

mod closing;
mod io;
mod lost;
mod reservations;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use reactor::buffer::Sgl;
use reactor::core::Core;

use super::*;
use crate::bdev::{BdevInfo, Done, Extent, Io, IoChannel, IoStatus, Op};
use crate::geometry::Geometry;
use crate::memory::MemoryDevice;
use crate::metadata::{MemoryStore, MetadataDone, MetadataStore};

/// What a held device or store shares with its test.
#[derive(Default)]
struct Desk {
    /// I/Os that the device keeps.
    held: VecDeque<Io>,
    /// It gives back so many of them.
    release: usize,
    /// The store answers: so, or not yet.
    store: Option<Result<(), i32>>,
    stored: Vec<Vec<u8>>,
    pending: usize,
    closed: bool,
}

type Shared = Rc<RefCell<Desk>>;

/// A device that answers when the test says so, except flushes when it is told nothing.
struct HeldDevice(Shared);

impl Drop for HeldDevice {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

fn info() -> BdevInfo {
    BdevInfo {
        logical_block_bytes: 512,
        physical_block_bytes: 4096,
        length_blocks: 2048,
        volatile_write_cache: true,
        thin: true,
        unmap_granularity_blocks: 8,
        write_unit_blocks: 1,
        atomic_write_blocks: 1,
        uuid: uuid::Uuid::from_u128(1),
    }
}

impl IoChannel for HeldDevice {
    fn info(&self) -> BdevInfo {
        info()
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        self.0.borrow_mut().held.push_back(io);
        None
    }

    fn poll(&mut self, out: &mut Vec<Done>, _: usize) {
        let mut desk = self.0.borrow_mut();
        let count = desk.release.min(desk.held.len());
        desk.release -= count;
        out.extend(desk.held.drain(..count).map(|io| Done {
            tag: io.tag,
            status: IoStatus::Good,
            sgl: io.sgl,
        }));
    }

    fn in_flight(&self) -> usize {
        self.0.borrow().held.len()
    }

    fn answers_compare(&self) -> bool {
        true
    }
}

struct HeldStore(Shared);

impl MetadataStore for HeldStore {
    fn submit(&mut self, _: u64, blob: Vec<u8>) {
        let mut desk = self.0.borrow_mut();
        desk.stored.push(blob);
        desk.pending += 1;
    }

    fn poll(&mut self, out: &mut Vec<MetadataDone>) {
        let mut desk = self.0.borrow_mut();
        if desk.pending > 0
            && let Some(result) = desk.store.take()
        {
            desk.pending -= 1;
            out.push(MetadataDone { tag: 0, result });
        }
    }

    fn in_flight(&self) -> usize {
        self.0.borrow().pending
    }
}

struct Bench {
    core: Core,
    registry: Registry,
    desk: Shared,
    bell: Bell,
}

thread_local! {
    /// Where the opening closures, which may travel, find the desk of their test.
    static DESK: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

fn desk() -> Shared {
    DESK.with(|desk| desk.borrow().clone().expect("the bench was made on this thread"))
}

impl Bench {
    /// A registry with the volume "held".
    fn new() -> Self {
        let core = reactor::sim::core(1);
        let shared = Shared::default();
        DESK.with(|desk| *desk.borrow_mut() = Some(Rc::clone(&shared)));
        let bench = Self { core, registry: Registry::new(), desk: shared, bell: Bell::default() };
        bench.registry.add(&bench.core, bench.setup("held")).map(drop).expect("it opens");
        bench
    }

    fn setup(&self, name: &str) -> VolumeSetup {
        VolumeSetup {
            name: name.into(),
            serial: "s".into(),
            channel: Box::new(|_| Ok(Box::new(HeldDevice(desk())))),
            metadata: Box::new(|_| Ok(Box::new(HeldStore(desk())))),
            reservations: Vec::new(),
        }
    }

    fn port(&self, token: u32) -> Port {
        self.registry.get("held").expect("it is there").open_port(&self.bell, token).expect("it is open")
    }

    fn remove(&self) -> mpsc::Receiver<Result<(), VolumeError>> {
        let (told, answer) = mpsc::channel();
        self.registry.remove("held", Box::new(move |result| drop(told.send(result))));
        answer
    }

    /// What is durable, or not, from now on.
    fn store(&self, result: Result<(), i32>) {
        self.desk.borrow_mut().store = Some(result);
    }
}

fn flush(tag: u64) -> Io {
    Io { tag, op: Op::Flush, sgl: Sgl::empty() }
}

fn polled(port: &Port) -> Vec<u64> {
    let mut out = Vec::new();
    port.poll(&mut out, 32);
    out.iter().map(|done| done.tag).collect()
}
