//! Why a run was refused or ended early.

use nvme::{End, Refusal};
use nvme_pci::PciError;
use nvmf_host::EndCause;
use reactor::core::CoreError;
use reactor::net::StreamError;
use vfio::VfioError;

/// Why there is no result. Messages say what to do next.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The target is not an address that is understood.
    #[error(
        "{input:?} is no target: {reason}; targets look like nvme-tcp://192.0.2.1:4420/nqn.2026-11.io.vega:data?nsid=1, \
         iscsi://192.0.2.1:3260/iqn.2026-11.io.vega:data/0, nvme-pcie://0000:01:00.0?nsid=1, nvme-emulated://1GiB, or the \
         words of a transport identifier: trtype=pcie traddr=0000:01:00.0 ns=1"
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
    /// Somebody ended it before it had measured anything.
    #[error("interrupted before anything was measured")]
    Interrupted,
    /// Another generator of the run has failed; its error is the one to tell.
    #[error("another core of the run has failed")]
    Elsewhere,
    /// Signals could not be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
    /// No memory for the buffers.
    #[error(
        "there are no {bytes} bytes of memory for buffers; ask for less with --depth, --queues or --block-size"
    )]
    Buffers {
        /// All of them together.
        bytes: u64,
    },
    /// The controller is not given to user space.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// The controller cannot be driven from user space.
    #[error(transparent)]
    Vfio(#[from] VfioError),
    /// A controller of this machine is not to be written to.
    #[error("{target} is not used: {cause}")]
    Local {
        /// The target.
        target: String,
        /// Why.
        cause: LocalCause,
    },
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
        match self {
            Self::Target { .. } | Self::Option { .. } | Self::Contradiction { .. } => true,
            Self::Pci(error) => error.is_usage(),
            Self::Local { cause: LocalCause::Serial { .. }, .. } => true,
            _ => false,
        }
    }
}

/// Why a controller that this process drives itself cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalCause {
    /// The device below it does not do what it must.
    #[error(transparent)]
    Device(#[from] nvme::device::DeviceError),
    /// It ended.
    #[error("the controller was lost: {}", how_it_ended(*.0))]
    Ended(End),
    /// The thread that keeps it is gone.
    #[error("nobody keeps the controller any more")]
    Unkept,
    /// The namespace is of a kind that is not driven.
    #[error("namespace {nsid}: {refusal}")]
    Namespace {
        /// Which.
        nsid: u32,
        /// Why.
        refusal: Refusal,
    },
    /// It takes no writes.
    #[error("namespace {nsid} is write-protected")]
    WriteProtected {
        /// Which.
        nsid: u32,
    },
    /// The serial number that was typed is another one's.
    #[error("its serial number is {found:?}, not {given:?}")]
    Serial {
        /// What was typed.
        given: String,
        /// What it says.
        found: String,
    },
    /// Something lies on the namespace.
    #[error(
        "namespace {nsid} holds {what} (its mark is at byte {offset_bytes}), and this load would destroy it; if it may, type the \
         controller's serial number: --confirm-serial {serial}"
    )]
    Labelled {
        /// Which.
        nsid: u32,
        /// What was recognised.
        what: &'static str,
        /// Where.
        offset_bytes: u64,
        /// What would have to be typed.
        serial: String,
    },
}

fn how_it_ended(end: End) -> String {
    match end {
        End::ShutDown { .. } => "it was shut down".to_owned(),
        End::Removed => "it was removed".to_owned(),
        End::Faulted(fault) => fault.to_string(),
    }
}

/// Why an iSCSI session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The stream could not be made, or broke; the system's error number.
    #[error("{}", StreamError::Broken(*.0))]
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
