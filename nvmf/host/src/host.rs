//! The poller that drives every remote namespace of a core, and the handles to it.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use reactor::core::Core;
use reactor::net::{Network, Ready, StreamGroup};
use reactor::poller::{Poller, Progress};
use reactor::time::{Clock, Time};
use volume::bdev::{BdevInfo, Comparing, Done, Io, IoChannel, Op};

use crate::error::ConfigError;
use crate::limits::{PATHS_MAX, SCRATCH_BYTES, SUBSYSTEMS_MAX, TOKENS_PER_CONTROLLER};
use crate::remote::{PathReport, Remote, RemoteConfig, RemoteCounters};
use crate::turn::Turn;

/// Tokens of one remote namespace.
const TOKENS_PER_REMOTE: u32 = PATHS_MAX as u32 * TOKENS_PER_CONTROLLER;

/// Streams that are looked at in one turn.
const READY_PER_TURN: usize = 64;

struct Inner {
    clock: Rc<dyn Clock>,
    network: Rc<dyn Network>,
    group: Box<dyn StreamGroup>,
    scratch: Vec<u8>,
    ready: Vec<Ready>,
    remotes: Vec<Option<Remote>>,
}

impl Inner {
    /// The remote namespaces and what they are lent.
    fn split(&mut self, now: Time) -> (&mut Vec<Option<Remote>>, Turn<'_>) {
        let turn = Turn { now, network: &*self.network, group: &mut *self.group, scratch: &mut self.scratch };
        (&mut self.remotes, turn)
    }

    fn remote(&self, index: usize) -> &Remote {
        self.remotes[index].as_ref().expect("a handle keeps its namespace")
    }

    fn remote_mut(&mut self, index: usize) -> &mut Remote {
        self.remotes[index].as_mut().expect("a handle keeps its namespace")
    }
}

/// The poller of a core's remote namespaces. [`Host::handle`] opens them.
pub struct Host {
    inner: Rc<RefCell<Inner>>,
}

/// Opens remote namespaces on the core of its [`Host`]; a clone is another handle.
#[derive(Clone)]
pub struct HostHandle {
    inner: Rc<RefCell<Inner>>,
}

impl Host {
    /// A poller without namespaces.
    pub fn new(core: &Core) -> Self {
        let inner = Inner {
            clock: Rc::clone(&core.clock),
            network: Rc::clone(&core.network),
            group: core.network.group(),
            scratch: vec![0; SCRATCH_BYTES],
            ready: Vec::with_capacity(READY_PER_TURN),
            remotes: Vec::new(),
        };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// A handle to open namespaces with.
    pub fn handle(&self) -> HostHandle {
        HostHandle { inner: Rc::clone(&self.inner) }
    }
}

impl Poller for Host {
    fn name(&self) -> &'static str {
        "nvmf_host"
    }

    fn poll(&mut self, now: Time, budget: u32) -> Progress {
        let inner = &mut *self.inner.borrow_mut();
        let mut ready = std::mem::take(&mut inner.ready);
        inner.group.take_ready(&mut ready, READY_PER_TURN.min(budget as usize));
        let (remotes, mut turn) = inner.split(now);
        let mut progress = Progress::Idle;
        for ready in ready.drain(..) {
            let remote = (ready.token / TOKENS_PER_REMOTE) as usize;
            let path = (ready.token % TOKENS_PER_REMOTE / TOKENS_PER_CONTROLLER) as usize;
            if let Some(remote) = remotes[remote].as_mut()
                && remote.on_ready(path, ready, &mut turn)
            {
                progress = Progress::Busy;
            }
        }
        for remote in remotes.iter_mut() {
            let Some(live) = remote else { continue };
            progress = progress.or(live.poll(&mut turn));
            if live.is_abandoned() {
                *remote = None;
            }
        }
        inner.ready = ready;
        progress
    }

    fn deadline(&self) -> Time {
        let inner = self.inner.borrow();
        inner.remotes.iter().flatten().map(Remote::deadline).min().unwrap_or(Time::NEVER)
    }

    fn may_sleep(&self) -> bool {
        !self.inner.borrow().remotes.iter().flatten().any(Remote::wants_flush)
    }
}

impl HostHandle {
    /// Begins to connect to a namespace, on all its paths. I/O may be submitted once [`Namespace::is_known`] says so.
    pub fn open(&self, config: RemoteConfig) -> Result<Namespace, ConfigError> {
        config.check()?;
        let inner = &mut *self.inner.borrow_mut();
        let free = inner.remotes.iter().position(Option::is_none).unwrap_or(inner.remotes.len());
        if free == SUBSYSTEMS_MAX {
            return Err(ConfigError::TooMany);
        }
        if free == inner.remotes.len() {
            inner.remotes.push(None);
        }
        let now = inner.clock.now();
        let (remotes, mut turn) = inner.split(now);
        remotes[free] = Some(Remote::new(config, free as u32 * TOKENS_PER_REMOTE, &mut turn));
        Ok(Namespace { inner: Rc::clone(&self.inner), index: free })
    }
}

/// A remote namespace as a block device. Dropping it closes its associations in good order.
///
/// Compare, and a compare and write that is no longer than ACWU or NACWU, are the controllers' where all paths offer them (ONCS, FUSES): they
/// are atomic towards all hosts. They do not say where the difference is; `volume::volume::Volume` looks for it. What is not offered, longer,
/// or an or-write, which NVMe has not, is left to `Volume`, which composes it of reads and writes in the one order that it keeps: that
/// is atomic towards what comes through this device, and other hosts have to be kept out by a reservation.
/// [`Compare::Required`](crate::Compare::Required) refuses controllers that offer less, by name.
pub struct Namespace {
    inner: Rc<RefCell<Inner>>,
    index: usize,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({})", self.index)
    }
}

impl Namespace {
    /// A path has shown what the namespace is. Before that there is no [`IoChannel::info`].
    pub fn is_known(&self) -> bool {
        self.inner.borrow().remote(self.index).info().is_some()
    }

    /// Every path as it is now.
    pub fn paths(&self) -> Vec<PathReport> {
        self.inner.borrow().remote(self.index).reports()
    }

    /// Counters since it was opened.
    pub fn counters(&self) -> RemoteCounters {
        self.inner.borrow().remote(self.index).counters()
    }

    /// Ends all I/O with `IoStatus::Gone` (writes in doubt once they can have no more effect) and shuts the controllers down.
    pub fn close(&self) {
        let inner = &mut *self.inner.borrow_mut();
        let now = inner.clock.now();
        let (remotes, mut turn) = inner.split(now);
        let remote = remotes[self.index].as_mut().expect("a handle keeps its namespace");
        remote.close(&mut turn);
    }

    /// True when, after [`Namespace::close`], nothing goes on any more.
    pub fn is_closed(&self) -> bool {
        self.inner.borrow().remote(self.index).is_closed()
    }
}

impl IoChannel for Namespace {
    /// # Panics
    /// Before [`Namespace::is_known`].
    fn info(&self) -> BdevInfo {
        self.inner.borrow().remote(self.index).info().expect("the owner waits until the namespace is known")
    }

    fn submit(&mut self, io: Io) -> Option<Done> {
        self.inner.borrow_mut().remote_mut(self.index).submit(io)
    }

    fn poll(&mut self, out: &mut Vec<Done>, budget: usize) {
        self.inner.borrow_mut().remote_mut(self.index).take_done(out, budget);
    }

    fn in_flight(&self) -> usize {
        self.inner.borrow().remote(self.index).in_flight()
    }

    fn comparing(&self, op: &Op) -> Comparing {
        self.inner.borrow().remote(self.index).comparing(op)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.close();
        self.inner.borrow_mut().remote_mut(self.index).abandon();
    }
}
