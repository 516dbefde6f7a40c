//! Why a run was refused or ended early.

use nvmf_host::EndCause;
use reactor::core::CoreError;

/// Why there is no result. Messages say what to do next.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The target is not an address that is understood.
    #[error(
        "{input:?} is no target: {reason}; targets look like nvme-tcp://192.0.2.1:4420/nqn.2026-11.io.vega:data?nsid=1 or \
         iscsi://192.0.2.1:3260/iqn.2026-11.io.vega:data/0"
    )]
    Target {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option is out of its bounds.
    #[error("{option} is out of bounds: {bounds}")]
    Option {
        /// As on the command line.
        option: &'static str,
        /// What is allowed.
        bounds: &'static str,
    },
    /// Two options contradict each other.
    #[error("{first} does not go with {second}: {reason}")]
    Contradiction {
        /// As on the command line.
        first: &'static str,
        /// As on the command line.
        second: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The host name has no address.
    #[error("cannot resolve {host:?}: {source}")]
    Resolve {
        /// Host and port.
        host: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The host name resolves to nothing.
    #[error("{host:?} has no address")]
    NoAddress {
        /// Host and port.
        host: String,
    },
    /// The core did not start.
    #[error("cannot start the generator's core: {0}")]
    Core(#[from] CoreError),
    /// The core ended without an answer; it has said why.
    #[error("the generator ended without a result")]
    Lost,
    /// No association with an NVMe controller, or it ended.
    #[error("the connection to {target} ended: {cause}")]
    Ended {
        /// The target.
        target: String,
        /// Why.
        cause: EndCause,
    },
    /// An iSCSI session could not be made, or ended.
    #[error("the session with {target} ended: {cause}")]
    Session {
        /// The target.
        target: String,
        /// Why.
        cause: SessionEnd,
    },
    /// Nothing was heard from the target in time.
    #[error("{target} was not ready within {seconds} s")]
    StartTimeout {
        /// The target.
        target: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The namespace is not there.
    #[error("{target} has no namespace {nsid} that can be used; it has {present:?}")]
    NoNamespace {
        /// The target.
        target: String,
        /// What was asked for.
        nsid: u32,
        /// What there is.
        present: Vec<u32>,
    },
    /// Fewer queues than asked for.
    #[error("{target} grants {granted} of {asked} queues; ask for fewer with --queues")]
    Queues {
        /// The target.
        target: String,
        /// What it grants.
        granted: usize,
        /// What was asked for.
        asked: u16,
    },
    /// The queues are shorter than the depth.
    #[error(
        "{target} takes {entries} commands per queue; ask for less with --depth, or for more queues with --queues"
    )]
    Depth {
        /// The target.
        target: String,
        /// Commands in flight that fit.
        entries: u32,
    },
    /// The request size is not a multiple of the logical block.
    #[error("{target} has blocks of {logical_block_bytes} bytes; --block-size must be a multiple of that")]
    BlockSize {
        /// The target.
        target: String,
        /// Its logical block.
        logical_block_bytes: u32,
    },
    /// The target is smaller than one request for every slot.
    #[error("{target} has room for {places} requests of that size, too few for {depth} in flight")]
    TooSmall {
        /// The target.
        target: String,
        /// Places.
        places: u64,
        /// Requests in flight.
        depth: u32,
    },
    /// Verification needs too much memory.
    #[error(
        "{target} has too many places of that size to remember each; use a larger --block-size with --verify"
    )]
    TooLarge {
        /// The target.
        target: String,
    },
    /// The load would destroy data.
    #[error(
        "{target} holds data that is not of an earlier run (block {lba}), and this load would overwrite it; give \
         --overwrite-data if it may be destroyed"
    )]
    HoldsData {
        /// The target.
        target: String,
        /// Where.
        lba: u64,
    },
    /// A read before the load failed.
    #[error("{target} cannot be read at block {lba}: {status}")]
    Unreadable {
        /// The target.
        target: String,
        /// Where.
        lba: u64,
        /// What it said.
        status: crate::driver::Failure,
    },
    /// What was in flight at the end was not answered.
    #[error("{target} did not answer {left} requests within {seconds} s after the load had ended")]
    Undrained {
        /// The target.
        target: String,
        /// How many.
        left: usize,
        /// How long was waited.
        seconds: u64,
    },
}

impl BenchError {
    /// True when the run was never begun because it was asked for in a wrong way.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Target { .. } | Self::Option { .. } | Self::Contradiction { .. })
    }
}

/// Why an iSCSI session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The stream could not be made, or broke; the system's error number.
    #[error("the connection failed (errno {0})")]
    Network(i32),
    /// The target closed the stream.
    #[error("the target closed the connection")]
    PeerClosed,
    /// Login was refused (RFC 7143, 11.13.5).
    #[error("login was refused (class {0}, detail {1})")]
    Refused(u8, u8),
    /// The target wants authentication.
    #[error("the target requires authentication, which the generator does not offer")]
    AuthenticationRequired,
    /// The target sent what it may not.
    #[error("the target broke the protocol (opcode {0:#04x})")]
    Violation(u8),
    /// A command before the load failed.
    #[error("the logical unit does not answer: {0}")]
    Unit(crate::driver::Failure),
    /// A command was not answered.
    #[error("a command was not answered in time")]
    Timeout,
}
