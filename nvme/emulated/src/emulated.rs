//! The controller in the hands of whoever owns it: it is stepped, filled, hurt, pulled out and asked how it is.

use std::cell::{RefCell, RefMut};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use nvme_spec::ae::AsynchronousEvent;
use reactor::poller::{Poller, Progress};
use reactor::time::Time;

use crate::config::{ConfigError, ControllerConfig, Delays, NamespaceConfig};
use crate::controller::{AfterReset, Controller, Counters, Presence};
use crate::device::EmulatedDevice;
use crate::fault::{Fault, FaultId, TooManyFaults};
use crate::iommu::IommuFault;
use crate::limits::CHANGES_MAX;
use crate::log::Health;
use crate::media::Fate;
use crate::namespace::Namespace;
use crate::registers::FatalUntil;

/// Why something was not done to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// There is none with this identifier.
    #[error("there is no namespace {nsid}")]
    Unknown {
        /// Which.
        nsid: u32,
    },
    /// There is one already, or its description is not one of a namespace.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// An NVMe controller in this process. A clone is another handle to the same one; all of them stay on one core.
#[derive(Clone)]
pub struct EmulatedController {
    inner: Rc<RefCell<Controller>>,
}

impl std::fmt::Debug for EmulatedController {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner.borrow();
        f.debug_struct("EmulatedController")
            .field("name", &inner.config.name)
            .field("presence", &inner.presence)
            .field("outstanding", &inner.flights.len())
            .field("counters", &inner.counters)
            .finish_non_exhaustive()
    }
}

impl EmulatedController {
    /// A controller with power, in its slot, disabled.
    pub fn new(config: ControllerConfig) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { inner: Rc::new(RefCell::new(Controller::new(config))) })
    }

    fn inner(&self) -> RefMut<'_, Controller> {
        self.inner.borrow_mut()
    }

    /// The function as it is in its slot now, for a driver.
    pub fn device(&self) -> EmulatedDevice {
        EmulatedDevice::new(&self.inner)
    }

    /// Lets time pass to `now`, takes at most `budget` commands and completes what is done.
    #[inline]
    pub fn step(&self, now: Time, budget: u32) -> Progress {
        if self.inner().step(now, budget) == 0 { Progress::Idle } else { Progress::Busy }
    }

    /// When the next step has something to do that no register write announces.
    pub fn deadline(&self) -> Time {
        self.inner.borrow().deadline()
    }

    // --- what it does wrong -----------------------------------------------------------------------------------------------

    /// Arms a fault.
    pub fn inject(&self, fault: Fault) -> Result<FaultId, TooManyFaults> {
        self.inner().faults.arm(fault)
    }

    /// Takes a fault away.
    pub fn disarm(&self, id: FaultId) {
        self.inner().faults.disarm(id);
    }

    /// Takes all faults away; commands that hang go on hanging.
    pub fn clear_faults(&self) {
        self.inner().faults.clear();
    }

    /// How many commands a fault has struck.
    pub fn fault_hits(&self, id: FaultId) -> u64 {
        self.inner.borrow().faults.hits(id)
    }

    /// Raises CSTS.CFS.
    pub fn fail(&self, until: FatalUntil) {
        self.inner().registers.fail(until);
    }

    /// Reports this event for every request, whatever the host has done about it, until it is told `None`.
    pub fn set_event_storm(&self, event: Option<AsynchronousEvent>) {
        self.inner().events.storm = event;
    }

    /// Reports an event once.
    pub fn raise_event(&self, event: AsynchronousEvent) {
        self.inner().raise(event);
    }

    /// How long things take from now on.
    pub fn set_delays(&self, delays: Delays) {
        self.inner().config.delays = delays;
    }

    /// How long things take.
    pub fn delays(&self) -> Delays {
        self.inner.borrow().config.delays
    }

    /// What the next Controller Level Reset changes.
    ///
    /// # Panics
    /// When the change describes no controller, or there are too many.
    pub fn change_at_reset(&self, change: AfterReset) {
        let mut inner = self.inner();
        assert!(inner.after_reset.len() < CHANGES_MAX, "changes are made and not kept");
        let mut config = inner.config.clone();
        config.mdts = change.mdts.unwrap_or(config.mdts);
        config.namespaces = inner.namespaces.values().map(describe).collect();
        for namespace in &mut config.namespaces {
            let (nsid, length_blocks) = change.length_blocks.unwrap_or((0, 0));
            if namespace.nsid == nsid {
                namespace.length_blocks = length_blocks;
            }
        }
        config.check().expect("a change to another controller that can be");
        inner.after_reset.push(change);
    }

    // --- presence and power -----------------------------------------------------------------------------------------------

    /// Pulls the function out. Its handles read all ones from now on; what was in the cache is lost as by a loss of power.
    pub fn remove(&self) {
        if self.inner.borrow().presence != Presence::Removed {
            self.inner().remove();
        }
    }

    /// Puts the same controller in again.
    pub fn insert(&self) {
        if self.inner.borrow().presence == Presence::Removed {
            self.inner().power_on();
        }
    }

    /// Puts another controller of the same kind in: another serial number, nothing on its medium.
    pub fn insert_another(&self, serial: &str) {
        let mut inner = self.inner();
        if inner.presence != Presence::Removed {
            return;
        }
        serial.clone_into(&mut inner.config.serial);
        let (cache_bytes, caching) = (inner.config.cache_bytes, inner.config.volatile_write_cache);
        let seed = reactor::random::Random::next_u64(&mut inner.random);
        let configs: Vec<NamespaceConfig> = inner.namespaces.values().map(describe).collect();
        inner.namespaces = configs
            .iter()
            .map(|config| (config.nsid, Namespace::new(config, cache_bytes, caching, seed)))
            .collect();
        inner.power_on();
    }

    /// Is it in its slot, with power?
    pub fn is_present(&self) -> bool {
        self.inner.borrow().presence == Presence::On
    }

    /// Power fails. Of what was not flushed, chance keeps a part.
    pub fn power_off(&self) {
        self.inner().power_off();
    }

    /// Power is back: a controller that is disabled.
    pub fn power_on(&self) {
        if self.inner.borrow().presence == Presence::Off {
            self.inner().power_on();
        }
    }

    // --- namespaces and their content -------------------------------------------------------------------------------------

    fn with_namespace<R>(
        &self,
        nsid: u32,
        act: impl FnOnce(&mut Namespace) -> R,
    ) -> Result<R, NamespaceError> {
        self.inner().namespaces.get_mut(&nsid).map(act).ok_or(NamespaceError::Unknown { nsid })
    }

    /// Creates a namespace; when it is attached, the host is told.
    pub fn create_namespace(&self, config: &NamespaceConfig) -> Result<(), NamespaceError> {
        let mut inner = self.inner();
        inner.config.check_namespace(config)?;
        if inner.namespaces.contains_key(&config.nsid) {
            return Err(ConfigError::NamespaceIdentifier { nsid: config.nsid }.into());
        }
        let (cache_bytes, caching) = (inner.config.cache_bytes, inner.features.write_cache);
        let seed = reactor::random::Random::next_u64(&mut inner.random);
        inner.namespaces.insert(config.nsid, Namespace::new(config, cache_bytes, caching, seed));
        if config.attached {
            inner.namespace_changed(config.nsid);
        }
        Ok(())
    }

    /// Deletes a namespace with all that is on it.
    pub fn delete_namespace(&self, nsid: u32) -> Result<(), NamespaceError> {
        let mut inner = self.inner();
        let gone = inner.namespaces.remove(&nsid).ok_or(NamespaceError::Unknown { nsid })?;
        if gone.attached {
            inner.namespace_changed(nsid);
        }
        Ok(())
    }

    /// Attaches or detaches a namespace.
    pub fn set_attached(&self, nsid: u32, attached: bool) -> Result<(), NamespaceError> {
        let was =
            self.with_namespace(nsid, |namespace| std::mem::replace(&mut namespace.attached, attached))?;
        if was != attached {
            self.inner().namespace_changed(nsid);
        }
        Ok(())
    }

    /// Gives a namespace another length.
    pub fn resize_namespace(&self, nsid: u32, length_blocks: u64) -> Result<(), NamespaceError> {
        let mut inner = self.inner();
        let unknown = NamespaceError::Unknown { nsid };
        let config = inner.namespaces.get(&nsid).map(describe).ok_or(unknown)?;
        inner.config.check_namespace(&NamespaceConfig { length_blocks, ..config })?;
        let namespace = inner.namespaces.get_mut(&nsid).ok_or(unknown)?;
        namespace.length_blocks = length_blocks;
        namespace.media.resize(length_blocks << namespace.format.block_bits());
        inner.namespace_changed(nsid);
        Ok(())
    }

    /// What a read of these blocks would give, past all faults.
    ///
    /// # Panics
    /// When there is no such namespace, or the blocks are not in it.
    pub fn peek(&self, nsid: u32, first: u64, count: u64) -> Vec<u8> {
        let read = |namespace: &mut Namespace| {
            let blocks = namespace.blocks(first, count).expect("blocks of the namespace");
            let mut out = Vec::new();
            namespace.media.read(&namespace.extent(blocks), |bytes| out.extend_from_slice(bytes));
            out
        };
        self.with_namespace(nsid, read).expect("a namespace that is there")
    }

    /// Puts bytes on the medium, past all caches and faults.
    ///
    /// # Panics
    /// When there is no such namespace, or `bytes` are not whole blocks in it.
    pub fn poke(&self, nsid: u32, first: u64, bytes: &[u8]) {
        let write = |namespace: &mut Namespace| {
            let count = (bytes.len() >> namespace.format.block_bits()) as u64;
            let blocks = namespace.blocks(first, count).expect("blocks of the namespace");
            let mut left = bytes;
            namespace.media.write(&namespace.extent(blocks), Fate::Durable, |out| {
                let (head, rest) = left.split_at(out.len());
                out.copy_from_slice(head);
                left = rest;
            });
            assert!(left.is_empty(), "whole blocks");
        };
        self.with_namespace(nsid, write).expect("a namespace that is there");
    }

    /// These blocks cannot be read until they are written again.
    pub fn spoil_reads(&self, nsid: u32, blocks: Range<u64>) -> Result<(), NamespaceError> {
        self.with_namespace(nsid, |namespace| {
            let bits = namespace.format.block_bits();
            namespace.media.spoil_reads(blocks.start << bits..blocks.end << bits);
        })
    }

    /// These blocks cannot be written.
    pub fn spoil_writes(&self, nsid: u32, blocks: Range<u64>) -> Result<(), NamespaceError> {
        self.with_namespace(nsid, |namespace| {
            let bits = namespace.format.block_bits();
            namespace.media.spoil_writes(blocks.start << bits..blocks.end << bits);
        })
    }

    /// All blocks can be read and written again.
    pub fn mend(&self, nsid: u32) -> Result<(), NamespaceError> {
        self.with_namespace(nsid, |namespace| namespace.media.mend())
    }

    /// Writes of a namespace that a loss of power might undo.
    pub fn unflushed(&self, nsid: u32) -> Result<usize, NamespaceError> {
        self.with_namespace(nsid, |namespace| namespace.media.unflushed())
    }

    /// Bytes of a namespace that are allocated.
    pub fn allocated_bytes(&self, nsid: u32) -> Result<u64, NamespaceError> {
        self.with_namespace(nsid, |namespace| namespace.media.allocated_bytes())
    }

    /// Changes its health; a new critical warning is an event.
    pub fn set_health(&self, health: Health) {
        let mut inner = self.inner();
        inner.health = health;
        inner.check_health();
    }

    /// Its health.
    pub fn health(&self) -> Health {
        self.inner.borrow().health
    }

    // --- what it has seen -------------------------------------------------------------------------------------------------

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.inner.borrow().counters
    }

    /// Commands that were fetched and are not completed, event requests aside.
    pub fn outstanding(&self) -> usize {
        self.inner.borrow().flights.len()
    }

    /// Event requests that are outstanding.
    pub fn event_requests(&self) -> usize {
        self.inner.borrow().events.outstanding()
    }

    /// CSTS.CFS is raised.
    pub fn is_fatal(&self) -> bool {
        self.inner.borrow().registers.is_fatal()
    }

    /// The longest time that it says enabling and disabling take (CAP.TO).
    pub fn ready_timeout(&self) -> Duration {
        self.inner.borrow().registers.timeout()
    }

    /// Accesses to memory that were stopped, over all time.
    pub fn iommu_fault_count(&self) -> u64 {
        self.inner.borrow().dma.borrow().fault_count()
    }

    /// The last accesses that were stopped.
    pub fn iommu_faults(&self) -> Vec<IommuFault> {
        self.inner.borrow().dma.borrow().faults().collect()
    }

    /// Ranges of memory that are mapped.
    pub fn mappings(&self) -> usize {
        self.inner.borrow().dma.borrow().mapped()
    }
}

/// Its owner may let a reactor step it, beside whatever drives it.
impl Poller for EmulatedController {
    fn name(&self) -> &'static str {
        "nvme_emulated"
    }

    fn poll(&mut self, now: Time, budget: u32) -> Progress {
        self.step(now, budget)
    }

    fn deadline(&self) -> Time {
        Self::deadline(self)
    }
}

fn describe(namespace: &Namespace) -> NamespaceConfig {
    NamespaceConfig {
        nsid: namespace.nsid,
        length_blocks: namespace.length_blocks,
        format: namespace.format,
        optimal_boundary_blocks: namespace.optimal_boundary_blocks,
        attached: namespace.attached,
    }
}
