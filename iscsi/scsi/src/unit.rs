//! The logical unit: one per volume on its owner core, shared by every target that maps it.

use reactor::buffer::BufferPool;
use volume::bdev::{BdevInfo, Done};

use crate::command::{Command, NexusId, NexusName};
use crate::plan::Pending;
use crate::response::{Response, Step};
use crate::unit_attention::UnitAttention;

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
    info: BdevInfo,
}

impl LogicalUnit {
    /// A logical unit over a device. `stored_reservations` is the last blob of [`Step::Persist`] that
    /// was made durable. Errors: the blob is damaged (another host may hold a reservation, so serving
    /// the volume without it is the operator's decision).
    pub fn new(
        config: LuConfig,
        info: BdevInfo,
        stored_reservations: Option<&[u8]>,
    ) -> Result<Self, volume::reservation::DecodeError> {
        let _ = (config, stored_reservations);
        Ok(Self { info })
    }

    /// What the device is.
    pub fn info(&self) -> &BdevInfo {
        &self.info
    }

    /// A nexus has come; its first command hears a POWER ON unit attention. False when there are too
    /// many ([`crate::limits::NEXUSES_MAX`]): then its commands must not be started.
    #[must_use]
    pub fn attach(&mut self, nexus: NexusId, name: NexusName) -> bool {
        let _ = (nexus, name);
        true
    }

    /// A nexus is gone: its legacy reservation goes, its registrations stay.
    pub fn detach(&mut self, nexus: NexusId) {
        let _ = nexus;
    }

    /// Bytes that the CDB takes from the initiator: 0 for a CDB that will be refused without its data.
    pub fn data_out_length(&self, cdb: &[u8]) -> u64 {
        let _ = cdb;
        0
    }

    /// Starts a command of an attached nexus.
    pub fn start(&mut self, command: Command, context: &Context<'_>) -> Step {
        let _ = (command, context);
        Step::Respond(Response::good())
    }

    /// Goes on with a command whose I/O is done.
    pub fn resume(&mut self, pending: Pending, done: Done, buffers: &BufferPool) -> Step {
        let _ = (pending, done, buffers);
        Step::Respond(Response::good())
    }

    /// Goes on after [`Step::RetryPending`].
    pub fn retry(&mut self, pending: Pending, buffers: &BufferPool) -> Step {
        let _ = (pending, buffers);
        Step::Respond(Response::good())
    }

    /// The blob of the last [`Step::Persist`] is durable, or could not be made so: then nothing has
    /// changed. The response is of the task that asked; drop it when the task was aborted, but carry
    /// out its effects.
    pub fn persisted(&mut self, ok: bool) -> Response {
        let _ = ok;
        Response::good()
    }

    /// LOGICAL UNIT RESET, after the target layer aborted every task: mode pages as at the start,
    /// legacy reservation dropped, a unit attention for every nexus but `by`. Registrations stay.
    pub fn reset(&mut self, by: Option<NexusId>) {
        let _ = by;
    }

    /// Queues a condition for one nexus.
    pub fn queue_unit_attention(&mut self, nexus: NexusId, attention: UnitAttention) {
        let _ = (nexus, attention);
    }

    /// Queues a condition for every nexus but `except`.
    pub fn queue_unit_attention_all(&mut self, attention: UnitAttention, except: Option<NexusId>) {
        let _ = (attention, except);
    }

    /// The device has changed (it grew): every nexus hears of it.
    pub fn capacity_changed(&mut self, info: BdevInfo) {
        self.info = info;
    }

    /// The port groups have changed: every nexus hears of it.
    pub fn set_port_groups(&mut self, groups: Vec<PortGroup>) {
        let _ = groups;
    }
}

/// The answer to a command for a LUN that is not there: INQUIRY says so, REPORT LUNS and REQUEST SENSE
/// work, anything else is refused (SPC-4 section 6.6.2 and SAM-5 section 5.11).
pub fn no_such_lun(cdb: &[u8], luns: &[u64]) -> Response {
    let _ = (cdb, luns);
    Response::check(crate::sense::Sense::NO_SUCH_LUN, false)
}
