//! What a target queue asks and tells the layer above, and the answers that it takes.

use nvme_spec::{Sqe, Status};

use crate::connection::Negotiated;
use crate::error::CloseCause;
use crate::limits::SLOT_BITS;
use crate::payload::Payload;

/// Questions that a queue needs answered on the spot, while it parses.
pub trait Admission {
    /// The buffers of this layer.
    type Payload: Payload;

    /// How many bytes the command takes from the host, of the `sgl_bytes` that its SGL describes: 0 for a command that takes none,
    /// is unknown or will be refused. A status instead of a length becomes the command's [`Command::fault`]; more than
    /// `sgl_bytes` does too, with Data SGL Length Invalid. Asked once per command.
    fn host_data_bytes(&mut self, sqe: &Sqe, sgl_bytes: u32) -> Result<u32, Status>;

    /// A buffer of exactly `length_bytes` (never 0), contents unspecified. `None` is back-pressure, so it may only be said of a
    /// length that the pool can give at some other time.
    ///
    /// A buffer for [`Purpose::Solicited`] waits for data that may sit in a stream behind a capsule that waits for memory itself. If
    /// such buffers held the whole pool, all might wait for each other. So they must leave a part of it (an eighth, say, and at
    /// least the largest in-capsule data) to [`Purpose::InCapsule`], whose data is at hand.
    fn alloc(&mut self, length_bytes: usize, purpose: Purpose) -> Option<Self::Payload>;
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Data that comes with its command: the next bytes of the stream.
    InCapsule,
    /// Data that will be asked for with R2Ts, and comes when the host sends it.
    Solicited,
}

/// A command that the layer above works on. Goes stale when the command is completed; a stale id is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(u32);

impl CommandId {
    pub(super) const fn new(slot: u16, generation: u16) -> Self {
        Self(slot as u32 | (generation as u32) << 16)
    }

    /// Slot of the command, unique among the commands in progress on the queue and below the queue's entries (or 4 before
    /// Connect): an index for tables beside the queue.
    pub const fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    pub(super) const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The id as a number, for tags that travel through other layers.
    pub const fn to_u32(self) -> u32 {
        self.0
    }

    /// The id behind a number that [`CommandId::to_u32`] gave.
    pub const fn from_u32(value: u32) -> Self {
        Self(value)
    }
}

/// A command to execute.
#[derive(Debug)]
pub struct Command<P> {
    /// Name of the command towards the queue.
    pub id: CommandId,
    /// The submission queue entry as it came.
    pub sqe: Sqe,
    /// Place in the order of the submission queue: counts all commands of the connection from 0, wrapping. The two halves
    /// of a fused operation have successive numbers.
    pub sequence: u32,
    /// Bytes that the command's SGL describes: the most that may be sent back.
    pub sgl_bytes: u32,
    /// Data from the host, as long as [`Admission::host_data_bytes`] said; `None` without any, and with a fault.
    pub data: Option<P>,
    /// What is wrong with the command already: complete it with this status (or one that takes precedence).
    pub fault: Option<Status>,
}

/// Something the layer above must act on.
#[derive(Debug)]
pub enum Event<P> {
    /// ICReq came and is answered.
    Initialized(Negotiated),
    /// Execute a command; answer with [`crate::TargetQueue::complete`] or [`crate::TargetQueue::complete_read`].
    Command(Command<P>),
    /// Everything that had to be sent was taken: close the stream and drop the queue. Commands that were given out have no one to
    /// answer any more.
    Close(CloseCause),
}

/// What Connect settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueParams {
    /// Entries of the submission queue: SQSIZE + 1 (2..=1024).
    pub entries: u32,
    /// In-capsule data of I/O commands in bytes (IOCCSZ * 16 - 64), at most 1 MiB. Admin and Fabrics commands always have 8192.
    pub in_capsule_bytes: u32,
    /// False when the host asked to disable flow control of the submission queue and the controller agreed: reads may then
    /// end without a response capsule, and SQHD is what the completion brings (FFFFh in that of Connect).
    pub sq_flow_control: bool,
}

/// Why a queue takes no input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// A command's data sits in the stream and finds no memory: call [`crate::TargetQueue::retry`] when some came back, and
    /// [`crate::TargetQueue::interrupt`] when none does.
    Memory,
    /// Too much waits to be sent.
    Backlog,
    /// It is being closed: what comes is dropped.
    Closing,
}

/// What became of a command that was to be aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// No command with this CID is in progress.
    NotFound,
    /// It waited for memory or data: it is given out with the fault Command Abort Requested, once its host data is past.
    Marked,
    /// The layer above has it.
    Executing(CommandId),
    /// It is completed, and its data is on the way.
    Completed,
}

/// How often something worth counting happened on one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetCounters {
    /// Header digests that were wrong.
    pub header_digest_errors: u64,
    /// Data digests that were wrong.
    pub data_digest_errors: u64,
    /// Commands that were failed for want of memory.
    pub interrupted: u64,
    /// R2Ts sent.
    pub r2ts: u64,
    /// Reads that ended without a response capsule.
    pub success_flags: u64,
}
