//! What a host queue takes and gives.

use nvme_spec::Cqe;

use crate::connection::Negotiated;
use crate::error::CloseCause;

/// The data of a command that is submitted. A payload without bytes counts as no data.
#[derive(Debug)]
pub enum HostData<P> {
    /// None.
    None,
    /// Host to controller: all bytes of the payload.
    Write(P),
    /// Controller to host: fills all bytes of the payload. A controller that reports success with fewer breaks the protocol.
    Read(P),
    /// Controller to host: fills the payload from the start; fewer bytes are no offence ([`Completion::received_bytes`]).
    ReadAtMost(P),
}

/// A command that the controller has completed.
#[derive(Debug)]
pub struct Completion<P> {
    /// The CID that [`crate::HostQueue::submit`] gave. From now on it means nothing.
    pub cid: u16,
    /// The completion queue entry; made here (all zero but the CID) when the controller used the SUCCESS flag. Its
    /// status is Transient Transport Error when the digest of data that came was wrong and the controller reported success.
    pub cqe: Cqe,
    /// The buffer that was submitted with the command.
    pub data: Option<P>,
    /// How many bytes of a read came.
    pub received_bytes: u32,
}

/// A command that got no completion before the queue ended.
#[derive(Debug)]
pub struct Unfinished<P> {
    /// Its CID.
    pub cid: u16,
    /// The buffer that was submitted with it. That of a read may be partly filled.
    pub data: Option<P>,
    /// False when no byte of the command was taken by the stream: the controller has not seen it.
    pub sent: bool,
}

/// Something the layer above must act on.
#[derive(Debug)]
pub enum HostEvent<P> {
    /// ICResp came: commands are taken from now on. Whether the digests are as wanted is for the layer above to look at.
    Initialized(Negotiated),
    /// A command is done.
    Completed(Completion<P>),
    /// Everything that had to be sent was taken: close the stream. [`crate::HostQueue::take_unfinished`] gives the buffers back.
    Close(CloseCause),
}

/// How often something worth counting happened on one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Data digests that were wrong.
    pub data_digest_errors: u64,
    /// R2Ts received.
    pub r2ts: u64,
    /// Reads that ended without a response capsule.
    pub success_flags: u64,
}
