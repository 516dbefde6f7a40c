//! Why a queue pair, an association or a configuration is no good.

use nvme_spec::Status;
use nvmf_proto::{TermReqCause, Violation};
use reactor::net::StreamError;

/// Why a queue pair or a whole association ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndCause {
    /// It was asked for.
    #[error("it was asked for")]
    Requested,
    /// The stream could not be made, or broke; the system's error number.
    #[error("{}", StreamError::Broken(*.0))]
    Network(i32),
    /// The controller closed the stream.
    #[error("the controller closed the connection")]
    PeerClosed,
    /// The controller broke the protocol, and was told.
    #[error("the controller broke the protocol: {0}")]
    Violation(Violation),
    /// The controller sent a terminate connection request.
    #[error("the controller terminated the connection: {0:?}")]
    PeerTerminated(TermReqCause),
    /// Digests that are required were declined.
    #[error("the controller declined digests that are required")]
    DigestsDeclined,
    /// Stream, ICResp or the answer to Connect took too long.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// A command took too long.
    #[error("a command was not answered in time")]
    CommandTimeout,
    /// Keep Alive was not answered in time.
    #[error("keep alive was not answered in time")]
    KeepAliveTimeout,
    /// Connect was refused.
    #[error("connect was refused: {}", .0.of_fabrics())]
    Refused(Status),
    /// The controller wants authentication, which is not offered.
    #[error("the controller requires authentication, which is not supported")]
    AuthenticationRequired,
    /// CSTS.RDY did not follow CC.EN in the time that the controller names.
    #[error("the controller did not become ready")]
    NotReady,
    /// CSTS.CFS is set.
    #[error("the controller reports a fatal status")]
    ControllerFatal,
    /// An admin command that is needed failed.
    #[error("admin command {opcode:#04x} failed: {status}")]
    Admin {
        /// Its opcode.
        opcode: u8,
        /// Its status.
        status: Status,
    },
    /// The controller is not one that can be used.
    #[error("the controller cannot be used: {0}")]
    Unsuitable(Unsuitable),
}

/// What a controller or namespace lacks, or says that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// Another controller answers than the one that Connect named.
    #[error("identify names another controller than connect did")]
    ControllerId,
    /// Not an I/O controller, or not a discovery controller, as the case may be.
    #[error("it is another type of controller")]
    ControllerType,
    /// The subsystem has another name.
    #[error("it belongs to another subsystem")]
    SubsystemName,
    /// No keep alive, without which a loss is not noticed.
    #[error("it does not support keep alive")]
    KeepAlive,
    /// SGLs, in-capsule data or queue entry sizes that no TCP controller has.
    #[error("its queue entry or capsule sizes are not those of the TCP transport")]
    Capsules,
    /// MDTS is below what one command is to move.
    #[error("its commands move at most {allowed_bytes} bytes (MDTS), and {needed_bytes} are needed")]
    TransferLimit {
        /// What MDTS says.
        allowed_bytes: u64,
        /// What the configuration asks for.
        needed_bytes: u64,
    },
    /// Write Zeroes is not supported; unmapping is built on it.
    #[error("it does not support write zeroes")]
    WriteZeroes,
    /// Compare is not supported, and required.
    #[error("it does not compare (ONCS)")]
    Compare,
    /// Fused compare and write is not supported (0 blocks) or shorter than required.
    #[error(
        "its fused compare and write takes {offered_blocks} blocks (FUSES, ACWU), and {needed_blocks} are needed"
    )]
    CompareAndWrite {
        /// What the controller offers for the namespace.
        offered_blocks: u32,
        /// What the configuration asks for.
        needed_blocks: u32,
    },
    /// The namespace has another UUID or another block size than on the other paths.
    #[error("the namespace is another one than on the other paths")]
    OtherNamespace,
    /// Fewer I/O queues were granted than one.
    #[error("it grants no I/O queue")]
    NoQueues,
}

/// Why a configuration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An NQN is empty, too long, or holds a NUL.
    #[error("an NQN has from 1 to 223 bytes, none of them NUL")]
    Nqn,
    /// The host identifier is zero.
    #[error("the host identifier may not be zero")]
    HostIdentifier,
    /// Numbers of queues or entries out of bounds.
    #[error("a queue has from 2 to 1024 entries, a controller from 1 to 16 I/O queues")]
    Queues,
    /// A timeout is zero, or they contradict each other.
    #[error("a timeout is out of bounds")]
    Timeout,
    /// No path, too many, or one twice.
    #[error("a subsystem has from 1 to 8 different paths")]
    Paths,
    /// No room for another subsystem.
    #[error("too many subsystems on this core")]
    TooMany,
    /// The namespace identifier is 0 or FFFFFFFFh.
    #[error("the namespace identifier is not one of a namespace")]
    Nsid,
}
