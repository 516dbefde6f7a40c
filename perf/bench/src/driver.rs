//! What the generator needs of a protocol, or of a device.

use std::fmt;
use std::time::Duration;

use reactor::buffer::Sgl;
use reactor::time::Time;
use serde::Serialize;

use crate::error::BenchError;
use crate::limits::CLOSE_TIMEOUT_S;

/// The memory of one request: runs of whole logical blocks, in order.
pub trait Payload: Default + fmt::Debug {
    /// Each run.
    fn runs(&self) -> impl Iterator<Item = &[u8]>;

    /// Each run, to write into.
    fn runs_mut(&mut self) -> impl Iterator<Item = &mut [u8]>;

    /// Bytes of all runs.
    fn length_bytes(&self) -> usize {
        self.runs().map(<[u8]>::len).sum()
    }
}

impl Payload for Vec<u8> {
    fn runs(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self[..])
    }

    fn runs_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        std::iter::once(&mut self[..])
    }
}

impl Payload for Sgl {
    fn runs(&self) -> impl Iterator<Item = &[u8]> {
        self.segments()
    }

    fn runs_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.segments_mut()
    }
}

/// What the target is as a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a logical block.
    pub logical_block_bytes: u32,
    /// Number of logical blocks.
    pub length_blocks: u64,
    /// Bytes of the longest command; a longer request is cut into several of them.
    pub command_bytes_max: u64,
}

impl Geometry {
    /// A target that names no longest command.
    pub fn unlimited(logical_block_bytes: u32, length_blocks: u64) -> Self {
        Self { logical_block_bytes, length_blocks, command_bytes_max: u64::MAX }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Fills its buffer.
    Read,
    /// Writes its buffer.
    Write,
}

/// One request. Its data is exactly as long as its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The slot of the generator: below depth times queues, unique among the requests in flight.
    pub tag: u32,
    /// Read or write.
    pub kind: Kind,
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks.
    pub length_blocks: u32,
}

/// What a target said instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An NVMe status.
    Nvme(nvme_spec::Status),
    /// A SCSI status, with sense key, additional sense code and qualifier where there are any.
    Scsi(u8, Option<(u8, u8, u8)>),
    /// A command got no answer, and none when it was sent again.
    Unanswered,
    /// The connection or the controller ended before the answer.
    Lost,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nvme(status) => write!(f, "{status}"),
            Self::Scsi(status, None) => write!(f, "SCSI status {status:#04x}"),
            Self::Scsi(status, Some((key, asc, ascq))) => {
                write!(f, "SCSI status {status:#04x}, sense {key:x}/{asc:02x}/{ascq:02x}")
            }
            Self::Unanswered => write!(f, "no answer, twice"),
            Self::Lost => write!(f, "no answer before the end of the connection or the controller"),
        }
    }
}

/// A request that is over.
#[derive(Debug)]
pub struct Answer<D> {
    /// Its tag.
    pub tag: u32,
    /// Its buffer.
    pub data: D,
    /// Why it failed; `None` when it did not.
    pub failure: Option<Failure>,
}

/// A controller that this process drives itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControllerFacts {
    /// Serial number.
    pub serial: String,
    /// Model.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// Commands that each queue takes.
    pub commands_per_queue: u32,
    /// What the buffers are made of.
    pub memory: String,
}

/// What a controller of our own was told, since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doorbells {
    /// Commands written to submission queues.
    pub commands: u64,
    /// Submission queue tail doorbells.
    pub submission: u64,
    /// Completion queue head doorbells.
    pub completion: u64,
}

impl Doorbells {
    /// What came after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            commands: self.commands.saturating_sub(before.commands),
            submission: self.submission.saturating_sub(before.submission),
            completion: self.completion.saturating_sub(before.completion),
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            commands: self.commands + other.commands,
            submission: self.submission + other.submission,
            completion: self.completion + other.completion,
        }
    }
}

/// A client of one target on the generator's core. Nothing waits; the generator spins.
pub trait Driver {
    /// The memory of a request.
    type Data: Payload;

    /// Receives, and appends what was answered. Called in every turn.
    fn poll(&mut self, now: Time, answers: &mut Vec<Answer<Self::Data>>);

    /// What the target is, once requests are taken.
    fn geometry(&self) -> Option<Geometry>;

    /// Memory for a request of `length_bytes`; `None` when there is no more. Only once the geometry is known.
    fn buffer(&mut self, length_bytes: usize) -> Option<Self::Data>;

    /// Why it ended, once it has. Requests that were in flight have been answered with [`Failure::Lost`].
    fn take_end(&mut self) -> Option<BenchError>;

    /// Takes a request; [`Driver::flush`] sends it. The data comes back when the target's window is full.
    fn submit(&mut self, now: Time, request: Request, data: Self::Data) -> Result<(), Self::Data>;

    /// Sends what waits, once per turn.
    fn flush(&mut self, now: Time);

    /// Takes leave of the target in good order.
    fn close(&mut self, now: Time);

    /// Nothing goes on any more.
    fn is_closed(&self) -> bool;

    /// How long a leave may take.
    fn close_timeout(&self) -> Duration {
        Duration::from_secs(CLOSE_TIMEOUT_S)
    }

    /// True when others of this process use the same controller, which ends with the last of them.
    fn shares(&self) -> bool {
        false
    }

    /// The controller, where this process drives it itself.
    fn controller(&self) -> Option<ControllerFacts> {
        None
    }

    /// What that controller was told so far.
    fn doorbells(&self) -> Doorbells {
        Doorbells::default()
    }
}

/// What a block device is asked for beside reads and writes. Answered like a request, with an empty buffer.
pub trait Maintenance: Driver {
    /// Takes a Flush. False when there is no room now.
    fn submit_flush(&mut self, now: Time, tag: u32) -> bool;

    /// Takes a command that frees blocks, which read zeros afterwards. False when there is no room now.
    fn submit_deallocate(&mut self, now: Time, tag: u32, lba: u64, length_blocks: u32) -> bool;
}
