//! The logical unit: one per volume on its owner core, shared by every target that maps it.

use std::rc::Rc;

use reactor::buffer::BufferPool;
use volume::bdev::BdevInfo;
use volume::reservation::{Outcome, ReservationCell};

use crate::command::{NexusId, NexusName};
use crate::limits::NEXUSES_MAX;
use crate::mode::Mode;
use crate::nexus::{Nexus, Nexuses, path_of};
use crate::response::Response;
use crate::sanitize::Condition;
use crate::sense::Sense;
use crate::unit_attention::{Queue, UnitAttention};

/// What the operator allows of the device's volatile write cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteCachePolicy {
    /// As the device says; a host may turn it off and on again by the caching mode page.
    #[default]
    Device,
    /// Off for good: every write is on the medium when it is answered.
    Off,
}

/// The asymmetric access state of a target port group (SPC-4 section 5.15.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AccessState {
    /// Use it.
    ActiveOptimized = 0x0,
    /// Works, another one is better.
    ActiveNonOptimized = 0x1,
    /// Takes no medium access.
    Standby = 0x2,
    /// Takes almost nothing.
    Unavailable = 0x3,
    /// Between two states.
    Transitioning = 0xf,
}

/// A target port group and its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortGroup {
    /// Its identifier.
    pub group: u16,
    /// How the ports reach the logical unit.
    pub state: AccessState,
    /// Preferred over other groups in the same state.
    pub preferred: bool,
    /// Relative target port identifiers.
    pub ports: Vec<u16>,
}

/// What a logical unit says about itself. Longer texts than the standard's fields are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LuConfig {
    /// T10 vendor identification, 8 bytes of ASCII.
    pub vendor: String,
    /// Product identification, 16 bytes of ASCII.
    pub product: String,
    /// Product revision level, 4 bytes of ASCII.
    pub revision: String,
    /// Unit serial number, ASCII.
    pub serial: String,
    /// Whether a volatile cache of the device may be used.
    pub write_cache: WriteCachePolicy,
    /// The port groups at the start; empty: all ports in one active and optimized group, 1.
    pub port_groups: Vec<PortGroup>,
}

/// What a command may look at while it starts.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where payload buffers come from.
    pub buffers: &'a BufferPool,
    /// The LUNs of the target, as 8-byte numbers in wire order, for REPORT LUNS.
    pub luns: &'a [u64],
}

/// One logical unit.
#[derive(Debug)]
pub struct LogicalUnit {
    pub(crate) config: LuConfig,
    pub(crate) info: BdevInfo,
    /// log2 of the logical block.
    pub(crate) block_shift: u32,
    /// Whether the medium may be used, or is being sanitized.
    pub(crate) condition: Condition,
    pub(crate) nexuses: Nexuses,
    pub(crate) mode: Mode,
    /// The volume's reservations, shared with the other protocols of the core.
    pub(crate) reservations: Rc<ReservationCell>,
    /// The epoch for which each nexus's access was computed.
    pub(crate) epoch: u64,
    /// Who holds the reservation of RESERVE(6).
    pub(crate) reserved_by: Option<NexusId>,
    pub(crate) port_groups: Vec<PortGroup>,
}

impl LogicalUnit {
    /// A logical unit over a device with the reservations of its volume.
    pub fn new(config: LuConfig, info: BdevInfo, reservations: Rc<ReservationCell>) -> Self {
        assert!(matches!(info.logical_block_bytes, 512 | 4096), "a device has blocks of 512 or 4096 bytes");
        let port_groups = config.port_groups.clone();
        Self {
            mode: Mode::new(&info, config.write_cache),
            block_shift: info.logical_block_bytes.trailing_zeros(),
            condition: Condition::Normal,
            config,
            info,
            nexuses: Nexuses::default(),
            epoch: reservations.epoch(),
            reservations,
            reserved_by: None,
            port_groups,
        }
    }

    /// What the device is.
    pub fn info(&self) -> &BdevInfo {
        &self.info
    }

    /// A nexus has come; its first command hears a POWER ON unit attention. False when there are too
    /// many ([`crate::limits::NEXUSES_MAX`]) or a name is too long to be kept with a registration:
    /// then its commands must not be started.
    #[must_use]
    pub fn attach(&mut self, nexus: NexusId, name: NexusName) -> bool {
        let Some(path) = path_of(&name) else { return false };
        if self.nexuses.len() >= NEXUSES_MAX && self.nexuses.find(nexus).is_none() {
            return false;
        }
        let access = self.reservations.access(&path);
        let mut attention = Queue::default();
        attention.push(UnitAttention::PowerOn);
        self.nexuses.insert(Nexus { id: nexus, name, path, attention, access });
        true
    }

    /// A nexus is gone: its legacy reservation goes, its registrations stay.
    pub fn detach(&mut self, nexus: NexusId) {
        if self.reserved_by == Some(nexus) {
            self.reserve_for(None);
        }
        self.nexuses.remove(nexus);
    }

    /// LOGICAL UNIT RESET, after the target layer aborted every task: mode pages as at the start,
    /// legacy reservation dropped, a unit attention for every nexus, `by` included (SAM-5 section
    /// 6.3.3). Registrations stay.
    pub fn reset(&mut self, by: Option<NexusId>) {
        let _ = by;
        self.mode = Mode::new(&self.info, self.config.write_cache);
        self.reserve_for(None);
        self.nexuses.tell_all(UnitAttention::LogicalUnitReset, None);
    }

    /// A nexus has logged out and will be detached: its legacy reservation goes now.
    pub fn release(&mut self, nexus: NexusId) {
        if self.reserved_by == Some(nexus) {
            self.reserve_for(None);
        }
    }

    /// Queues a condition for one nexus; nothing when it is not attached.
    pub fn queue_unit_attention(&mut self, nexus: NexusId, attention: UnitAttention) {
        if let Some(nexus) = self.nexuses.find(nexus) {
            nexus.attention.push(attention);
        }
    }

    /// Queues a condition for every nexus but `except`.
    pub fn queue_unit_attention_all(&mut self, attention: UnitAttention, except: Option<NexusId>) {
        self.nexuses.tell_all(attention, except);
    }

    /// The device has changed (it grew): every nexus hears of it.
    pub fn capacity_changed(&mut self, info: BdevInfo) {
        assert_eq!(info.logical_block_bytes, self.info.logical_block_bytes, "a device keeps its block size");
        self.info = info;
        self.nexuses.tell_all(UnitAttention::CapacityChanged, None);
    }

    /// The port groups have changed: every nexus hears of it.
    pub fn set_port_groups(&mut self, groups: Vec<PortGroup>) {
        self.port_groups = groups;
        self.nexuses.tell_all(UnitAttention::AsymmetricAccessChanged, None);
    }

    /// The reservations were changed through another protocol: whom it concerns hears of it. What is allowed from now on
    /// is seen by itself.
    pub fn reservations_changed_elsewhere(&mut self, outcome: &Outcome) {
        self.tell_outcome(outcome, None);
    }

    /// Gives the unit to a nexus by RESERVE(6), or to nobody.
    pub(crate) fn reserve_for(&mut self, holder: Option<NexusId>) {
        if self.reserved_by != holder {
            self.reserved_by = holder;
            let path = holder.and_then(|nexus| self.nexuses.find(nexus)).map(|nexus| nexus.path.clone());
            self.reservations.set_exclusive(path);
        }
    }

    /// Takes over what the reservations allow, if they have changed since the last command.
    #[inline]
    pub(crate) fn refresh_access(&mut self) {
        if self.reservations.epoch() != self.epoch {
            self.epoch = self.reservations.epoch();
            self.nexuses.refresh_access(&self.reservations);
        }
    }

    /// The state of the port group that a relative target port belongs to.
    pub(crate) fn access_state(&self, relative_target_port_id: u16) -> AccessState {
        let groups = &self.port_groups;
        let group = groups.iter().find(|group| group.ports.contains(&relative_target_port_id));
        group.map_or(AccessState::ActiveOptimized, |group| group.state)
    }

    /// CHECK CONDITION in the sense format that the control mode page asks for.
    pub(crate) fn check(&self, sense: Sense) -> Response {
        Response::check(sense, self.mode.descriptor_sense)
    }
}
