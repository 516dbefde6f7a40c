//! Operational parameters as typed values (RFC 7143 section 13).
//!
//! [`Offers`] is what we want, [`negotiate::Negotiator`] answers the initiator's keys, [`Negotiated`] is what holds.

pub mod negotiate;

pub use negotiate::{Negotiator, ParamError, Stage};

use crate::limits::{CONNECTIONS_PER_SESSION_MAX, OUTSTANDING_R2T_MAX};

/// Which digest protects the header or the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestType {
    /// No digest.
    #[default]
    None,
    /// CRC-32C.
    Crc32c,
}

impl DigestType {
    /// True when four digest bytes are on the wire.
    pub const fn is_on(self) -> bool {
        matches!(self, Self::Crc32c)
    }
}

/// What a session is for (section 13.21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionType {
    /// SCSI commands.
    #[default]
    Normal,
    /// SendTargets only.
    Discovery,
}

/// Which tasks' end is reported when another session's action ends them (section 13.23).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskReporting {
    /// RFC 3720 semantics.
    #[default]
    Rfc3720,
    /// A response or a unit attention is fenced.
    ResponseFence,
    /// Asynchronous message 5 instead of waiting.
    FastAbort,
}

/// The values in force once login is done. `default()` is what the standard says before any negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Digest of headers, both ways.
    pub header_digest: DigestType,
    /// Digest of data segments, both ways.
    pub data_digest: DigestType,
    /// Largest data segment in bytes that we take.
    pub our_max_recv_data_segment_length: u32,
    /// Largest data segment in bytes that the initiator takes.
    pub their_max_recv_data_segment_length: u32,
    /// Largest solicited burst (and Data-In sequence) in bytes.
    pub max_burst_length: u32,
    /// Most unsolicited data of one command in bytes, immediate data included.
    pub first_burst_length: u32,
    /// True: no unsolicited Data-Out but immediate data.
    pub initial_r2t: bool,
    /// Immediate data is allowed.
    pub immediate_data: bool,
    /// Connections per session.
    pub max_connections: u16,
    /// R2Ts per task in flight.
    pub max_outstanding_r2t: u16,
    /// Always 0: session recovery only.
    pub error_recovery_level: u8,
    /// Seconds before a lost connection's tasks are reassigned or the session is made again.
    pub default_time2wait_s: u16,
    /// Seconds that they are kept after that.
    pub default_time2retain_s: u16,
    /// Data PDUs of a sequence come in order.
    pub data_pdu_in_order: bool,
    /// Sequences of a task come in order.
    pub data_sequence_in_order: bool,
    /// Protocol level (RFC 7144): 0 none named, 1 RFC 7143, 2 RFC 7144 too.
    pub protocol_level: u16,
    /// Task reporting semantics.
    pub task_reporting: TaskReporting,
}

impl Default for Negotiated {
    fn default() -> Self {
        Self {
            header_digest: DigestType::None,
            data_digest: DigestType::None,
            our_max_recv_data_segment_length: 8192,
            their_max_recv_data_segment_length: 8192,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            initial_r2t: true,
            immediate_data: true,
            max_connections: 1,
            max_outstanding_r2t: 1,
            error_recovery_level: 0,
            default_time2wait_s: 2,
            default_time2retain_s: 20,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            protocol_level: 1,
            task_reporting: TaskReporting::Rfc3720,
        }
    }
}

/// Which digests a target accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestPolicy {
    /// The initiator's preference.
    #[default]
    Any,
    /// CRC-32C wherever the initiator offers it.
    Prefer,
    /// CRC-32C or no login.
    Require,
    /// None only.
    Refuse,
}

/// Our side of the negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers {
    /// Largest data segment in bytes that we declare to take: 512..=2^24-1.
    pub max_recv_data_segment_length: u32,
    /// Upper bound of MaxBurstLength in bytes: 512..=2^24-1.
    pub max_burst_length: u32,
    /// Upper bound of FirstBurstLength in bytes: 512..=2^24-1.
    pub first_burst_length: u32,
    /// True insists on an R2T for all data but immediate data.
    pub initial_r2t: bool,
    /// False refuses immediate data.
    pub immediate_data: bool,
    /// Upper bound of MaxConnections.
    pub max_connections: u16,
    /// Upper bound of MaxOutstandingR2T.
    pub max_outstanding_r2t: u16,
    /// Lower bound of DefaultTime2Wait in seconds.
    pub default_time2wait_s: u16,
    /// Upper bound of DefaultTime2Retain in seconds; at error recovery level 0 tasks are not kept.
    pub default_time2retain_s: u16,
}

impl Default for Offers {
    fn default() -> Self {
        Self {
            max_recv_data_segment_length: 262_144,
            max_burst_length: 1_048_576,
            first_burst_length: 262_144,
            initial_r2t: false,
            immediate_data: true,
            max_connections: CONNECTIONS_PER_SESSION_MAX,
            max_outstanding_r2t: OUTSTANDING_R2T_MAX,
            default_time2wait_s: 0,
            default_time2retain_s: 0,
        }
    }
}
