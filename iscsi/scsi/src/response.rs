//! What a logical unit gives back: a response, or what has to happen before there is one.

use reactor::buffer::Sgl;
use volume::bdev::Io;
use volume::reservation::Path;

use crate::command::Command;
use crate::plan::Pending;
use crate::reserve_out::ReservationChange;
use crate::sense::Sense;

/// SAM-5 status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Good = 0x00,
    /// Sense data says what is wrong.
    CheckCondition = 0x02,
    /// Not now; the initiator tries again.
    Busy = 0x08,
    /// A reservation of another nexus forbids it.
    ReservationConflict = 0x18,
    /// No room for another task.
    TaskSetFull = 0x28,
    /// The task was aborted by another nexus.
    TaskAborted = 0x40,
}

/// The data of a response.
#[derive(Debug, Default)]
pub enum DataIn {
    /// None.
    #[default]
    None,
    /// Blocks, in pooled buffers.
    Sgl(Sgl),
    /// A few bytes about the logical unit.
    Bytes(Vec<u8>),
}

impl DataIn {
    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Sgl(sgl) => sgl.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The contiguous bytes from `offset_bytes` on; empty at the end.
    pub fn chunk(&self, offset_bytes: usize) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Sgl(sgl) => sgl.chunk(offset_bytes),
            Self::Bytes(bytes) => &bytes[offset_bytes..],
        }
    }

    /// As [`DataIn::chunk`], to write into.
    pub fn chunk_mut(&mut self, offset_bytes: usize) -> &mut [u8] {
        match self {
            Self::None => &mut [],
            Self::Sgl(sgl) => sgl.chunk_mut(offset_bytes),
            Self::Bytes(bytes) => &mut bytes[offset_bytes..],
        }
    }
}

/// What a command does beyond its own answer; the target layer does it before it sends the response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Every task of these paths on this volume is aborted and its last I/O waited for, the answering
    /// command itself excepted (PREEMPT AND ABORT).
    pub abort_tasks_of: Vec<Path>,
}

/// The end of a command.
#[derive(Debug)]
pub struct Response {
    /// How it ended.
    pub status: Status,
    /// Encoded sense data, at most 252 bytes; empty unless the status is CHECK CONDITION.
    pub sense: Vec<u8>,
    /// The data for the initiator, never longer than the CDB's own length field allows.
    pub data_in: DataIn,
    /// What the CDB transfers to the initiator: the other side of the read residual. `data_in` may
    /// hold less, when the initiator expects less; it always holds what the initiator expects of it.
    pub data_in_len: u64,
    /// What the CDB transfers from the initiator: the other side of the write residual. Equal to
    /// `data_out_length(cdb)`, whatever the status.
    pub data_out_len: u64,
    /// What else has to happen first; almost always nothing.
    pub effects: Option<Box<Effects>>,
}

impl Response {
    /// GOOD without data.
    pub fn good() -> Self {
        Self::with_status(Status::Good)
    }

    /// A status without data.
    pub fn with_status(status: Status) -> Self {
        Self {
            status,
            sense: Vec::new(),
            data_in: DataIn::None,
            data_in_len: 0,
            data_out_len: 0,
            effects: None,
        }
    }

    /// GOOD with data.
    pub fn data(data_in: DataIn) -> Self {
        let data_in_len = data_in.len() as u64;
        Self { data_in, data_in_len, ..Self::good() }
    }

    /// GOOD with the first `allocation_length` bytes of `bytes`.
    pub(crate) fn bytes(mut bytes: Vec<u8>, allocation_length: u64) -> Self {
        bytes.truncate(usize::try_from(allocation_length).unwrap_or(usize::MAX));
        Self::data(DataIn::Bytes(bytes))
    }

    /// CHECK CONDITION with `sense`, encoded as the control mode page says.
    pub fn check(sense: Sense, descriptor_format: bool) -> Self {
        Self { sense: sense.encode(descriptor_format), ..Self::with_status(Status::CheckCondition) }
    }
}

/// What comes next for a command.
#[derive(Debug)]
pub enum Step {
    /// The command has ended.
    Respond(Response),
    /// Submit the I/O (its tag is the task number) and give its answer to
    /// [`crate::LogicalUnit::resume`] together with the state. To abort the task, drop the state;
    /// its I/O must still come home before the abort is reported.
    Io(Io, Pending),
    /// Ask the volume for this change (again at a later turn while another one is under way), then call
    /// [`crate::LogicalUnit::change_ended`], even when the task was aborted meanwhile.
    Change(Box<ReservationChange>),
    /// An operation has begun that outlives the command: drive [`crate::LogicalUnit::background`]. With a
    /// response, the command has ended; without, the end of the operation brings it. An abort of the task
    /// ends the waiting, not the operation.
    Background(Option<Response>),
    /// Nothing happened: no buffer. Start the command again at a later turn.
    Retry(Command),
    /// As `Retry`, in the middle of an operation, or so that a long one does not hold the core: give
    /// the state to [`crate::LogicalUnit::retry`] at a later turn.
    RetryPending(Pending),
}
