//! What the generator needs of a protocol.

use std::fmt;

use reactor::time::Time;

use crate::error::BenchError;

/// What the target is as a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a logical block.
    pub logical_block_bytes: u32,
    /// Number of logical blocks.
    pub length_blocks: u64,
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
    /// The connection ended before the answer.
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
            Self::Lost => write!(f, "no answer before the connection ended"),
        }
    }
}

/// A request that is over.
#[derive(Debug)]
pub struct Answer {
    /// Its tag.
    pub tag: u32,
    /// Its buffer.
    pub data: Vec<u8>,
    /// Why it failed; `None` when it did not.
    pub failure: Option<Failure>,
}

/// A client of one target on the generator's core. Nothing waits; the generator spins.
pub trait Driver {
    /// Receives, and appends what was answered. Called in every turn.
    fn poll(&mut self, now: Time, answers: &mut Vec<Answer>);

    /// What the target is, once requests are taken.
    fn geometry(&self) -> Option<Geometry>;

    /// Why it ended, once it has. Requests that were in flight have been answered with [`Failure::Lost`].
    fn take_end(&mut self) -> Option<BenchError>;

    /// Takes a request; [`Driver::flush`] sends it. The data comes back when the target's window is full.
    fn submit(&mut self, now: Time, request: Request, data: Vec<u8>) -> Result<(), Vec<u8>>;

    /// Sends what waits, once per turn.
    fn flush(&mut self, now: Time);

    /// Takes leave of the target in good order.
    fn close(&mut self, now: Time);

    /// Nothing goes on any more.
    fn is_closed(&self) -> bool;
}
