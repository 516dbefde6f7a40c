//! Why a controller or a namespace is not used, and how I/O ends.

use nvme_spec::Status;

use crate::device::DeviceError;

/// Why a controller is of no use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// Its smallest memory page is larger than 4 KiB.
    #[error("the controller's smallest memory page is {bytes} bytes; 4096 is needed")]
    PageSize {
        /// What it needs.
        bytes: u64,
    },
    /// It does not offer the NVM command set.
    #[error("the controller does not offer the NVM command set")]
    CommandSet,
    /// It takes queues of a single entry only.
    #[error("the controller's queues are too short (CAP.MQES is 0)")]
    QueueLength,
    /// The doorbells do not fit its registers.
    #[error("the controller's register space ends before its doorbells")]
    Registers,
    /// Its queue entries have other sizes than 64 and 16 bytes.
    #[error("the controller needs queue entries of other sizes than 64 and 16 bytes")]
    EntrySize,
    /// It is no I/O controller.
    #[error("the controller is of a type that does no I/O")]
    ControllerType,
}

/// What must not change under a driver, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Serial Number.
    Serial,
    /// Model Number.
    Model,
    /// Maximum Data Transfer Size.
    TransferSize,
    /// Queue length, doorbells or the support of SGLs.
    Capabilities,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Serial => "serial number",
            Self::Model => "model",
            Self::TransferSize => "maximum data transfer size",
            Self::Capabilities => "capabilities",
        })
    }
}

/// Why a controller was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It cannot be used by this driver.
    #[error(transparent)]
    Unsuitable(Unsuitable),
    /// The device below did not do what it must.
    #[error(transparent)]
    Device(DeviceError),
    /// It is not the device it was, or not as it was.
    #[error("the controller's {0} has changed; it is not used as the device it was")]
    Changed(Change),
    /// It was reset again and again.
    #[error("the controller did not recover after {resets} resets; the last was for {last}")]
    TooManyResets {
        /// How many.
        resets: u32,
        /// Why it was reset last.
        last: ResetCause,
    },
    /// Neither a controller reset nor a function reset stopped it.
    #[error("the controller could not be reset in time")]
    NotReset,
}

/// Why a controller was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// Somebody asked for it.
    Asked,
    /// CSTS.CFS is 1.
    ControllerFatal,
    /// CSTS.RDY fell without a reset of ours: it lost its power, or somebody else reset it.
    NotReady,
    /// Somebody else reset it, shut it down or gave it other queues, and it is ready all the same.
    TakenOver,
    /// CSTS.RDY did not come in time.
    ReadyTimeout,
    /// An admin command was not answered in time.
    AdminTimeout,
    /// An admin command of the start-up failed.
    AdminStatus(Status),
    /// An aborted command did not end in time.
    AbortTimeout,
    /// Too many completions for no command.
    Spurious,
    /// A completion for a command or queue that cannot be.
    InvalidCompletion,
}

impl std::fmt::Display for ResetCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asked => f.write_str("a request"),
            Self::ControllerFatal => f.write_str("a fatal controller status"),
            Self::NotReady => f.write_str("a lost ready state"),
            Self::TakenOver => f.write_str("a reset or a shutdown by somebody else"),
            Self::ReadyTimeout => f.write_str("a ready state that did not come"),
            Self::AdminTimeout => f.write_str("an admin command without an answer"),
            Self::AdminStatus(status) => write!(f, "an admin command that failed ({status})"),
            Self::AbortTimeout => f.write_str("a command that did not end"),
            Self::Spurious => f.write_str("completions that nobody waits for"),
            Self::InvalidCompletion => f.write_str("an impossible completion"),
        }
    }
}

/// Why a namespace is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its format carries metadata.
    #[error(
        "the namespace is formatted with {bytes} bytes of metadata per block; format it without (nvme format --ms=0)"
    )]
    Metadata {
        /// Per block.
        bytes: u16,
    },
    /// Its format carries protection information.
    #[error("the namespace is formatted with end-to-end protection; format it without (nvme format --pi=0)")]
    Protection,
    /// Its blocks are neither 512 nor 4096 bytes long.
    #[error("the namespace has blocks of {bytes} bytes; format it with 512 or 4096")]
    BlockSize {
        /// What it has; 0 when it does not say.
        bytes: u32,
    },
    /// It holds no block, or more than can be addressed.
    #[error("the namespace claims {blocks} blocks")]
    Size {
        /// What it claims.
        blocks: u64,
    },
    /// It is of another command set.
    #[error("the namespace is of another command set than NVM (identifier {csi})")]
    CommandSet {
        /// Command Set Identifier.
        csi: u8,
    },
    /// Its identifiers are not those it had.
    #[error("the namespace has another identity than before; it is not used as the one it was")]
    IdentityChanged,
    /// It is shorter than it was, or longer after a reset.
    #[error("the namespace has {found} blocks and had {expected}; it is not used as the one it was")]
    SizeChanged {
        /// Before.
        expected: u64,
        /// Now.
        found: u64,
    },
    /// Its block size has changed.
    #[error("the namespace has blocks of {found} bytes and had {expected}; it is not used as the one it was")]
    BlockSizeChanged {
        /// Before.
        expected: u32,
        /// Now.
        found: u32,
    },
    /// It promises less than it did: a write cache that was not there, shorter atomic writes, or other ways to read zeros.
    #[error(
        "the namespace promises less than before about its cache, its atomic writes or freed blocks; it is not used as the one it was"
    )]
    PromisesChanged,
    /// The controller lost its power while writes were in its volatile cache.
    #[error("the controller lost power; writes that were not flushed may be lost")]
    CacheLost,
    /// It is not attached to the controller any more.
    #[error("the namespace was taken away")]
    Removed,
}

/// How an I/O ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Success,
    /// The controller refused or failed a command.
    Failed {
        /// What it said.
        status: Status,
        /// The first block concerned: of a read that met an unreadable block, exactly that one.
        lba: u64,
    },
    /// No answer came, twice: what a write did is unknown, and it will do nothing any more.
    Unanswered {
        /// The first block of the command.
        lba: u64,
    },
    /// The controller or the namespace is gone.
    Gone,
}

/// Why a controller gives no queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// It is not ready.
    #[error("the controller is not ready")]
    NotReady,
    /// All are taken.
    #[error("all {queues} I/O queues of the controller are taken")]
    NoneLeft {
        /// What it granted.
        queues: u16,
    },
}
