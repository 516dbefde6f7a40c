//! Simulated twins of clock, chance, disks and network: one seed, one history, no thread.
//!
//! The shipped code runs on them unchanged. Time stands still until somebody moves it: the owner
//! of the world ([`SimWorld::advance`]), or, unless that is switched off, a poll that finds nothing
//! due and moves the clock to its own next event, so that a plain "poll until done" loop ends.
//! It is not: a model of speed. Delays only decide what happens in which order.
//!
//! Reading order: this file, `random`, `faults`, `image`, `disk`, `file`, `net`.

mod disk;
mod faults;
mod file;
mod image;
mod net;
mod random;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use disk::SimDisk;
pub use faults::{DiskFaults, NetFaults};
pub use file::{SimFile, SimFiles};
pub use image::SECTOR_BYTES;
pub use net::{SimEnd, SimNetwork};
pub use random::SimRandom;

use crate::buffer::{BufferPool, SizeClass};
use crate::core::Core;
use crate::limits::BUFFER_BUDGET_BYTES_MIN;
use crate::stats::CoreStats;
use crate::time::{Clock, Time};
use crate::wake::Waker;

struct Inner {
    now_ns: Cell<u64>,
    auto_advance: Cell<bool>,
    random: RefCell<SimRandom>,
    disks: RefCell<Vec<disk::State>>,
    net: RefCell<net::State>,
}

/// A small universe made from one seed; a clone is another handle to it.
#[derive(Clone)]
pub struct SimWorld {
    inner: Rc<Inner>,
}

impl std::fmt::Debug for SimWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimWorld(at {} ns)", self.inner.now_ns.get())
    }
}

impl SimWorld {
    /// A world in which streams are cut anywhere and completions are reordered, but nothing fails
    /// until it is told to.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            // Not zero: code that confuses the origin with "never happened" is found out.
            now_ns: Cell::new(1_000_000_000),
            auto_advance: Cell::new(true),
            random: RefCell::new(SimRandom::new(seed)),
            disks: RefCell::default(),
            net: RefCell::default(),
        };
        Self { inner: Rc::new(inner) }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        Time::from_ns(self.inner.now_ns.get())
    }

    /// Moves the clock on by `by`.
    pub fn advance(&self, by: Duration) {
        self.advance_to(self.now().after(by));
    }

    /// Moves the clock on to `to`, if that is later.
    pub fn advance_to(&self, to: Time) {
        assert!(to != Time::NEVER, "nothing happens at the end of time");
        self.inner.now_ns.set(self.inner.now_ns.get().max(to.as_ns()));
    }

    /// With `false`, only the owner of the world moves the clock; a poll never does.
    pub fn set_auto_advance(&self, auto_advance: bool) {
        self.inner.auto_advance.set(auto_advance);
    }

    /// When the next disk or network event is due, or [`Time::NEVER`].
    pub fn next_event(&self) -> Time {
        let disks = self.inner.disks.borrow();
        let disk = disks.iter().map(disk::State::next_due).min().unwrap_or(Time::NEVER);
        disk.min(self.inner.net.borrow().next_due(self.now()))
    }

    /// Moves the clock to the next event or to `deadline`, whichever is first; false when there is
    /// neither.
    pub fn advance_to_next(&self, deadline: Time) -> bool {
        let next = self.next_event().min(deadline);
        if next == Time::NEVER {
            return false;
        }
        self.advance_to(next);
        true
    }

    /// A random generator of its own, seeded by this world.
    pub fn fork_random(&self) -> SimRandom {
        self.inner.random.borrow_mut().fork()
    }

    /// A new disk of `length_bytes` that reads zeros.
    pub fn disk(&self, length_bytes: u64) -> SimDisk {
        SimDisk::new(self, length_bytes)
    }

    /// The network of one simulated core.
    pub fn network(&self) -> SimNetwork {
        SimNetwork::new(self)
    }

    /// The files of one simulated core.
    pub fn files(&self) -> SimFiles {
        SimFiles::new(self)
    }

    /// What a simulated core offers to its pollers; its buffers are 8 MiB of heap.
    pub fn core(&self, name: &str) -> Core {
        self.core_with_buffers(name, &SizeClass::for_budget(BUFFER_BUDGET_BYTES_MIN))
    }

    /// As [`SimWorld::core`], with buffers of these classes: a world that is made and dropped thousands of times wants few.
    pub fn core_with_buffers(&self, name: &str, classes: &[SizeClass]) -> Core {
        let stats = Arc::new(CoreStats::new(name));
        let buffers = BufferPool::heap(classes);
        stats.set_memory(buffers.report());
        stats.buffer_total_bytes.set(buffers.total_bytes() as u64);
        Core {
            clock: Rc::new(SimClock { world: self.clone() }),
            random: Rc::new(RefCell::new(self.fork_random())),
            network: Rc::new(self.network()),
            files: Rc::new(self.files()),
            buffers,
            stats,
            id: None,
            waker: Waker::new().expect("a free descriptor"),
        }
    }

    fn chance(&self, permille: u32) -> bool {
        permille > 0 && self.inner.random.borrow_mut().below(1000) < u64::from(permille)
    }

    fn below(&self, bound: u64) -> u64 {
        self.inner.random.borrow_mut().below(bound)
    }

    fn delay(&self, min_us: u64, max_us: u64) -> Time {
        let range_ns = (max_us - min_us) * 1000 + 1;
        self.now().after(Duration::from_nanos(min_us * 1000 + self.below(range_ns)))
    }
}

/// A core in a world of its own: the shortest way to run a poller under simulation.
pub fn core(seed: u64) -> Core {
    SimWorld::new(seed).core("sim")
}

/// The clock of a simulated world.
#[derive(Clone, Debug)]
pub struct SimClock {
    world: SimWorld,
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        self.world.now()
    }
}

#[cfg(test)]
mod tests;
