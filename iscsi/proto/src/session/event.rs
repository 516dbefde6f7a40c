//! What a session tells the layer above, and the answers it takes.

use smallvec::SmallVec;

use crate::pdu::{LogoutReason, TaskAttribute, TmfFunction};

/// A connection of a session: its slot, 0..8. Not the initiator's connection id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionIndex(pub u8);

/// A task that the layer above works on. Goes stale when the task is completed or aborted; a stale id is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(crate) u32);

impl TaskId {
    /// The id as a number, for tags that travel through other layers.
    pub const fn to_u32(self) -> u32 {
        self.0
    }

    /// The id behind a number that [`TaskId::to_u32`] gave.
    pub const fn from_u32(value: u32) -> Self {
        Self(value)
    }

    /// Slot of the task, unique among the live tasks of the session and below
    /// [`crate::session::limits::TASKS_MAX`]: an index for tables beside the session.
    pub const fn slot(self) -> usize {
        (self.0 & ((1 << crate::session::limits::TASK_SLOT_BITS) - 1)) as usize
    }
}

/// A task management, text or logout request that waits for its answer. A stale id is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u32);

/// A command descriptor block: 16 bytes on the stack, longer ones (at most 260) mostly too.
pub type Cdb = SmallVec<[u8; 32]>;

/// Something the layer above must act on.
#[derive(Debug)]
pub enum Event<P> {
    /// Execute a command; answer with [`crate::session::Session::complete`].
    Command(Command<P>),
    /// The task's connection or session went away, or a task management function that the session served by itself
    /// ended it: the id is stale, no response will be sent. Whatever runs may finish; nothing new may start for it.
    TaskAborted {
        /// The task.
        task: TaskId,
    },
    /// End tasks; answer with [`crate::session::Session::complete_task_management`].
    TaskManagement(TaskManagement),
    /// Name targets; answer with [`crate::session::Session::complete_text`].
    Text(TextQuery),
    /// The initiator leaves; the tasks concerned were reported with `TaskAborted` just before. Answer with
    /// [`crate::session::Session::complete_logout`] when none of them can touch a medium any more.
    Logout(Logout),
    /// Everything that had to be sent was taken (or nobody takes it): close the stream and call
    /// [`crate::session::Session::remove_connection`].
    CloseConnection {
        /// The connection.
        connection: ConnectionIndex,
        /// Why.
        cause: CloseCause,
    },
}

/// A SCSI command whose data is there.
#[derive(Debug)]
pub struct Command<P> {
    /// The task.
    pub task: TaskId,
    /// The connection it came on and will be answered on.
    pub connection: ConnectionIndex,
    /// LUN field, 8 bytes as a big-endian number.
    pub lun: u64,
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// The CDB: 16 bytes, more with an extended CDB header segment.
    pub cdb: Cdb,
    /// Expected data transfer length, bytes (the write half of a bidirectional command).
    pub expected_data_transfer_length: u32,
    /// R bit.
    pub read: bool,
    /// W bit.
    pub write: bool,
    /// Read half of a bidirectional command, bytes.
    pub bidirectional_read_length: u32,
    /// Data from the initiator: `min(data_out_wanted, expected_data_transfer_length)` bytes, nothing when that is 0.
    pub data_out: Option<P>,
    /// What [`crate::session::Host::data_out_length`] said; more than `data_out` holds means overflow.
    pub data_out_wanted: u64,
    /// Sent for immediate delivery.
    pub immediate: bool,
}

/// How a command ended.
#[derive(Debug)]
pub struct Completion<'a, P> {
    /// SCSI status.
    pub status: u8,
    /// False: the target failed before SCSI could say anything (response code 1, section 11.4.3).
    pub target_failure: bool,
    /// Sense data, without its length prefix; at most 252 bytes are sent.
    pub sense: &'a [u8],
    /// Data for the initiator; the session sends at most what the initiator expects.
    pub data_in: Option<P>,
    /// Bytes that SCSI has to give; may exceed both `data_in` and the expected length.
    pub data_in_length: u64,
    /// Bytes that SCSI took or would have taken; may exceed the expected length.
    pub data_out_length: u64,
}

impl<P> Completion<'_, P> {
    /// GOOD, with the bytes that a data-out command took (0 if none).
    pub const fn good(data_out_length: u64) -> Self {
        Self {
            status: 0,
            target_failure: false,
            sense: &[],
            data_in: None,
            data_in_length: 0,
            data_out_length,
        }
    }
}

/// A task management function (section 11.5) that the layer above has to carry out.
///
/// The session answers by itself: CLEAR ACA, TASK REASSIGN and unknown functions, and ABORT TASK of a task that is
/// not executing. It has dropped its own half of the affected tasks of this session (those still collecting data)
/// before it says this. Here remain ABORT TASK of an executing task, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT
/// RESET, TARGET WARM RESET and TARGET COLD RESET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskManagement {
    /// For the answer.
    pub id: RequestId,
    /// Where it came from.
    pub connection: ConnectionIndex,
    /// The function.
    pub function: TmfFunction,
    /// LUN field as a big-endian number; not valid for target resets.
    pub lun: u64,
    /// ABORT TASK: the executing task. Call [`crate::session::Session::abort_task`] for it, or let it complete first.
    pub referenced: Option<TaskId>,
}

/// Which targets an initiator asks for (appendix C of RFC 7143).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendTargets {
    /// All that it may see; only in a discovery session.
    All,
    /// The target of this session.
    Current,
    /// One by name: the answer is empty when it may not see it.
    Named(String),
}

/// A SendTargets question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextQuery {
    /// For the answer.
    pub id: RequestId,
    /// Where it came from.
    pub connection: ConnectionIndex,
    /// The question.
    pub targets: SendTargets,
}

/// What a logout ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logout {
    /// For the answer.
    pub id: RequestId,
    /// Where it came from.
    pub connection: ConnectionIndex,
    /// Close the session or the connection.
    pub reason: LogoutReason,
    /// The connection that is to go, when it is not the whole session.
    pub leaving: Option<ConnectionIndex>,
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The initiator logged out.
    LoggedOut,
    /// `handle_bytes` returned this error.
    Fatal(Fatal),
    /// No answer to a ping, or nobody reads what we send.
    Unresponsive,
    /// [`crate::session::Session::close`] was called.
    Requested,
}

/// The peer broke the protocol so that the connection cannot go on (error recovery level 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// Header digest wrong: where the next PDU starts is unknown (section 7.8).
    #[error("header digest error")]
    HeaderDigest,
    /// A data segment longer than what was declared (MaxRecvDataSegmentLength).
    #[error("data segment of {length_bytes} bytes, {limit_bytes} are allowed")]
    DataSegmentTooLong {
        /// Length of the segment.
        length_bytes: u32,
        /// What this PDU may carry.
        limit_bytes: u32,
    },
    /// A header's fields contradict each other or the standard (section 7.7).
    #[error("format error in the header of opcode {opcode:#04x}")]
    Format {
        /// Opcode of the PDU.
        opcode: u8,
    },
    /// Data-Out that no rule allows: wrong tag, offset or length.
    #[error("data-out outside of what was asked for")]
    DataOut,
    /// Immediate or unsolicited data against what was negotiated.
    #[error("unsolicited data that was not negotiated or exceeds FirstBurstLength")]
    UnsolicitedData,
    /// A login request after login.
    #[error("login request in full feature phase")]
    UnexpectedLogin,
    /// The connection was closed before; nothing more is taken.
    #[error("the connection is closing")]
    Closing,
}
