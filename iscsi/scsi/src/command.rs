//! What a logical unit is given: a command, and the nexus it came by.

use reactor::buffer::Sgl;
use smallvec::SmallVec;

/// An I_T nexus, numbered by the target layer; unique on the core while it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId(pub u32);

/// Who the two ends of an I_T nexus are. Persistent reservations are kept by these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NexusName {
    /// The initiator's iSCSI name.
    pub initiator_name: String,
    /// The initiator session id: with the name, the SCSI initiator port.
    pub isid: [u8; 6],
    /// The target's iSCSI name.
    pub target_name: String,
    /// The portal group tag: with the target's name, the SCSI target port.
    pub portal_group_tag: u16,
    /// The relative target port identifier of that port; not 0.
    pub relative_target_port_id: u16,
}

/// A command whose data has arrived.
#[derive(Debug)]
pub struct Command {
    /// The caller's number; the I/O that the command causes carries it as its tag.
    pub task: u64,
    /// Where it came from; attached to the logical unit.
    pub nexus: NexusId,
    /// The command descriptor block, as long as the transport made it (16 bytes for iSCSI without
    /// an additional header).
    pub cdb: SmallVec<[u8; 16]>,
    /// What arrived of the data, at most `data_out_length(cdb)` bytes.
    pub data_out: Sgl,
    /// What the initiator expects to move, in bytes (RFC 7143 section 11.3.4).
    pub expected_data_transfer_length: u32,
    /// The initiator expects data from us.
    pub read: bool,
    /// The initiator has data for us.
    pub write: bool,
}
