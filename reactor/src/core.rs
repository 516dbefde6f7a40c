//! A core: a pinned thread with its clock, memory, ring, files and network, that runs a reactor.
//!
//! **Panic policy.** A panic in a poller leaves its core's data in an unknown state, and other cores
//! and peers rely on that data. So the process says which poller it was and aborts; acknowledged
//! writes are safe by then (`kill -9` is the same event), and the supervisor starts it again.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::buffer::{BufferPool, SizeClass};
use crate::clock::MonotonicClock;
use crate::file::FileSystem;
use crate::idle::{IdlePolicy, IdleState};
use crate::limits::{BUFFER_BUDGET_BYTES_DEFAULT, STALL_US_DEFAULT};
use crate::memory::{MemoryError, MemoryRegion};
use crate::net::Network;
use crate::poller::{Poller, Progress};
use crate::random::{OsRandom, Random};
use crate::reactor::Reactor;
use crate::stats::CoreStats;
use crate::tcp::TcpNetwork;
use crate::time::{Clock, Time};
use crate::uring::{Uring, UringError};
use crate::wake::Waker;

/// The number of a processor, as the operating system counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub usize);

/// The processors that this process may use (it respects `taskset` and cgroup cpusets).
pub fn available_cores() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| CoreId(core.id)).collect()
}

/// Why a core did not start.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The process may not use that processor.
    #[error("cannot pin a thread to processor {0}: it does not exist or is outside this process's cpuset")]
    Pin(usize),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// No descriptor for the eventfd.
    #[error("cannot make an eventfd: {0}: raise the limit on open files (ulimit -n)")]
    Waker(std::io::Error),
    /// No memory for buffers.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No io_uring.
    #[error(transparent)]
    Uring(#[from] UringError),
    /// The set-up panicked; the panic has been printed.
    #[error("the set-up of the core panicked")]
    Setup,
}

/// What a core is to be.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The processor to pin to; `None` leaves it to the scheduler.
    pub core: Option<CoreId>,
    /// What it does when there is nothing to do.
    pub idle: IdlePolicy,
    /// Memory for buffers.
    pub buffer_bytes: usize,
    /// The name of thread and counters.
    pub name: String,
    /// A turn of a poller longer than this counts as a stall.
    pub stall_us: u64,
    /// What wakes it: the mesh's, or `None` for one of its own.
    pub waker: Option<Waker>,
}

impl CoreConfig {
    /// The defaults, not pinned.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            core: None,
            idle: IdlePolicy::default(),
            buffer_bytes: BUFFER_BUDGET_BYTES_DEFAULT,
            name: name.into(),
            stall_us: STALL_US_DEFAULT,
            waker: None,
        }
    }
}

/// What a core offers to its pollers. In the simulator the same names stand for simulated twins.
#[derive(Clone)]
pub struct Core {
    /// The time.
    pub clock: Rc<dyn Clock>,
    /// Chance.
    pub random: Rc<RefCell<dyn Random>>,
    /// Listeners and streams.
    pub network: Rc<dyn Network>,
    /// Files.
    pub files: Rc<dyn FileSystem>,
    /// Memory for payload.
    pub buffers: BufferPool,
    /// Its counters.
    pub stats: Arc<CoreStats>,
    /// The processor it is pinned to.
    pub id: Option<CoreId>,
    /// What wakes it.
    pub waker: Waker,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Core({}, {:?})", self.stats.name, self.id)
    }
}

/// A core that runs. Dropping it neither stops nor joins it.
#[derive(Debug)]
pub struct CoreThread {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    stats: Arc<CoreStats>,
    waker: Waker,
}

impl CoreThread {
    /// Ends the loop after the present turn. Drain the pollers before, by their own messages.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Waits until the thread has ended and everything on it was dropped.
    pub fn join(self) {
        // A panic aborts the process, so there is nothing to hand on.
        let _ = self.thread.join();
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<CoreStats> {
        Arc::clone(&self.stats)
    }

    /// What wakes it.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// Starts a core and returns when `setup`, which runs on the pinned thread, has made its pollers.
pub fn spawn_core(
    config: CoreConfig,
    setup: impl FnOnce(&Core) -> Vec<Box<dyn Poller>> + Send + 'static,
) -> Result<CoreThread, CoreError> {
    let waker = match &config.waker {
        Some(waker) => waker.clone(),
        None => Waker::new().map_err(CoreError::Waker)?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let stats = Arc::new(CoreStats::new(config.name.clone()));
    let (ready_sender, ready) = mpsc::channel();
    let builder = std::thread::Builder::new().name(config.name.clone());
    let (its_stop, its_stats, its_waker) = (Arc::clone(&stop), Arc::clone(&stats), waker.clone());
    let run = move || {
        let parts = match Parts::new(&config, its_stats, its_waker) {
            Ok(parts) => parts,
            Err(error) => return drop(ready_sender.send(Err(error))),
        };
        let pollers = setup(&parts.core);
        let mut running = Running::new(&config, parts, pollers, its_stop);
        drop(ready_sender.send(Ok(())));
        running.run_or_abort();
    };
    let thread = builder.spawn(run).map_err(CoreError::Thread)?;
    match ready.recv() {
        Ok(Ok(())) => Ok(CoreThread { thread, stop, stats, waker }),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(mpsc::RecvError) => Err(CoreError::Setup),
    }
}

/// The real things behind a [`Core`], with the interfaces that the loop needs.
struct Parts {
    core: Core,
    uring: Uring,
    network: Rc<TcpNetwork>,
}

impl Parts {
    fn new(config: &CoreConfig, stats: Arc<CoreStats>, waker: Waker) -> Result<Self, CoreError> {
        if let Some(CoreId(id)) = config.core
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            return Err(CoreError::Pin(id));
        }
        // Memory after pinning: its pages then come from this core's node.
        let classes = SizeClass::for_budget(config.buffer_bytes);
        let region = MemoryRegion::new(SizeClass::total_bytes(&classes))?;
        stats.set_memory(region.report());
        let buffers = BufferPool::new(region, &classes);
        stats.buffer_total_bytes.set(buffers.total_bytes() as u64);
        stats.buffer_available_bytes.set(buffers.available_bytes() as u64);
        let uring = Uring::new(waker.clone())?;
        let network = Rc::new(TcpNetwork::new(uring.clone(), Arc::clone(&stats)));
        let core = Core {
            clock: Rc::new(MonotonicClock),
            random: Rc::new(RefCell::new(OsRandom::new())),
            network: Rc::clone(&network) as Rc<dyn Network>,
            files: Rc::new(uring.clone()),
            buffers,
            stats,
            id: config.core,
            waker,
        };
        Ok(Self { core, uring, network })
    }
}

/// Gauges that cost a walk are brought up to date no less often. In time, not in turns: a busy turn may take a thousand times
/// as long as one without work, and who reads a gauge must know how old it can be.
const GAUGE_INTERVAL: Duration = Duration::from_millis(1);

struct Running {
    reactor: Reactor,
    idle: IdleState,
    parts: Parts,
    stop: Arc<AtomicBool>,
    clock: MonotonicClock,
    gauges_due: Time,
    /// Scratch space for what is watched while the core sleeps.
    wake_events: Vec<RawFd>,
}

impl Running {
    fn new(config: &CoreConfig, parts: Parts, pollers: Vec<Box<dyn Poller>>, stop: Arc<AtomicBool>) -> Self {
        let stall = Duration::from_micros(config.stall_us);
        let (clock, stats) = (Rc::clone(&parts.core.clock), Arc::clone(&parts.core.stats));
        let reactor = Reactor::new(pollers, clock, stats, stall);
        let idle = IdleState::new(config.idle, MonotonicClock.now());
        let (clock, gauges_due) = (MonotonicClock, Time::ZERO);
        Self { reactor, idle, parts, stop, clock, gauges_due, wake_events: Vec::new() }
    }

    #[expect(clippy::print_stderr, reason = "the process ends here; no log survives to say why")]
    fn run_or_abort(&mut self) {
        // Unwind-safe by what follows: nothing is looked at again but a name.
        if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            let core = &self.parts.core.stats.name;
            eprintln!("vega: poller {} on {core} panicked; aborting", self.reactor.current_poller());
            std::process::abort();
        }
    }

    fn run(&mut self) {
        let mut now = self.clock.now();
        while !self.stop.load(Ordering::Relaxed) {
            let progress = self.turn(now);
            let after = self.clock.now();
            let stats = &self.parts.core.stats;
            let took_ns = after.ns_since(now);
            now = after;
            if progress == Progress::Busy {
                stats.busy_ns.add(took_ns);
                self.idle.on_busy(now);
                continue;
            }
            stats.idle_ns.add(took_ns);
            if self.idle.on_idle(now, self.parts.uring.file_operations()) && self.reactor.may_sleep() {
                now = self.sleep(now);
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Completions in, every poller once, submissions out.
    fn turn(&mut self, now: Time) -> Progress {
        self.parts.uring.reap();
        let progress = self.reactor.poll_once(now);
        self.parts.uring.submit();
        if now >= self.gauges_due {
            self.gauges_due = now.after(GAUGE_INTERVAL);
            self.update_gauges();
        }
        progress
    }

    fn update_gauges(&self) {
        let core = &self.parts.core;
        core.stats.buffer_available_bytes.set(core.buffers.available_bytes() as u64);
        core.stats.file_operations.set(self.parts.uring.file_operations() as u64);
    }

    /// Arms every wake-up, looks once more and sleeps. A message that came before the waker was
    /// armed is found by that look; one that comes after it wakes the core.
    fn sleep(&mut self, now: Time) -> Time {
        let waker = self.parts.core.waker.clone();
        waker.arm();
        self.reactor.before_sleep();
        let progress = self.turn(now);
        let stopped = self.stop.load(Ordering::SeqCst);
        let now = self.clock.now();
        if progress == Progress::Busy {
            self.idle.on_busy(now);
        }
        let stay = progress == Progress::Busy || stopped || !self.reactor.may_sleep();
        // Arming is what hands hot streams to the kernel, so it comes last and only if all is quiet.
        let slept = if stay || !self.parts.network.arm_all() {
            now
        } else {
            self.update_gauges();
            self.wake_events.clear();
            self.reactor.wake_events(&mut self.wake_events);
            self.parts.uring.watch_events(&self.wake_events);
            self.parts.uring.sleep(self.reactor.deadline().since(now));
            let after = self.clock.now();
            let stats = &self.parts.core.stats;
            stats.sleeps.add(1);
            let slept_ns = after.ns_since(now);
            stats.asleep_ns.add(slept_ns);
            stats.idle_ns.add(slept_ns);
            after
        };
        self.reactor.after_sleep();
        waker.disarm();
        slept
    }
}

#[cfg(test)]
mod tests;
