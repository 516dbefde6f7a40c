//! What a peer can do wrong, and how it is told (TCP 3.5: fatal errors end the connection with a terminate connection request).

use nvme_spec::tcp::FatalErrorStatus;

/// Fatal Error Status and Information of a terminate connection request (TCP 3.6.2.4, 3.6.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermReqCause {
    /// Fatal Error Status.
    pub fes: FatalErrorStatus,
    /// Fatal Error Information.
    pub fei: u32,
}

/// A breach of the transport protocol. Each is fatal to the connection and to nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The type is unknown, or only our end may send it.
    #[error("a PDU of type {0:#04x} may not come from this peer")]
    PduType(u8),
    /// Digest flags do not match what was negotiated, or SUCCESS stands without LAST_PDU.
    #[error("the flags {0:#04x} of a PDU are not valid")]
    Flags(u8),
    /// HLEN is not that of the type.
    #[error("a PDU has a header of {0} bytes")]
    HeaderLength(u8),
    /// PDO points into the header, past the end, or off the alignment.
    #[error("a PDU has its data at offset {0}")]
    DataOffset(u8),
    /// PLEN does not fit the PDU.
    #[error("a PDU says it has {0} bytes")]
    PduLength(u32),
    /// Another field of the header has a value that it cannot have.
    #[error("the header field at byte {0} is not valid")]
    Field(u32),
    /// A parameter of ICReq or ICResp is not supported.
    #[error("the parameter at byte {0} is not supported")]
    UnsupportedParameter(u32),
    /// Something came before the connection was initialized.
    #[error("a PDU of type {0:#04x} came before the connection was initialized")]
    BeforeInitialization(u8),
    /// ICReq or ICResp came a second time.
    #[error("the connection was initialized already")]
    InitializedTwice,
    /// More commands than the submission queue has entries.
    #[error("more commands came than the queue has entries")]
    QueueOverflow,
    /// Data is in range and not the next.
    #[error("data came out of order")]
    DataOrder,
    /// LAST_PDU stands before the last data, or not with it.
    #[error("LAST_PDU is not where the last data is")]
    LastPdu,
    /// An R2T or C2HData came where the state of its command has no place for it.
    #[error("a transfer came that its command does not wait for")]
    UnexpectedTransfer,
    /// A command was reported as done, and some of its data was never asked for or never sent.
    #[error("a command succeeded without all of its data")]
    DataMissing,
    /// The header digest is wrong; the digest that came.
    #[error("the header digest is wrong (received {0:#010x})")]
    HeaderDigest(u32),
    /// Data lies outside of what was asked for or offered.
    #[error("data lies outside of the transfer")]
    OutOfRange,
    /// More data in one PDU than MAXH2CDATA, or than a capsule may hold.
    #[error("a PDU has more data than was agreed")]
    DataLimit,
    /// More R2Ts of one command than MAXR2T.
    #[error("more R2Ts of one command than agreed")]
    R2tLimit,
    /// A terminate connection request with a length that none has: the connection ends without an answer.
    #[error("a terminate connection request has a length that none has")]
    TermReqLength,
}

impl Violation {
    /// How the peer is told; `None` when it is not told.
    pub fn report(self) -> Option<TermReqCause> {
        let (fes, fei) = match self {
            Self::PduType(_) => (FatalErrorStatus::INVALID_PDU_HEADER_FIELD, 0),
            Self::Flags(_) => (FatalErrorStatus::INVALID_PDU_HEADER_FIELD, 1),
            Self::HeaderLength(_) => (FatalErrorStatus::INVALID_PDU_HEADER_FIELD, 2),
            Self::DataOffset(_) => (FatalErrorStatus::INVALID_PDU_HEADER_FIELD, 3),
            Self::PduLength(_) => (FatalErrorStatus::INVALID_PDU_HEADER_FIELD, 4),
            Self::Field(offset) => (FatalErrorStatus::INVALID_PDU_HEADER_FIELD, offset),
            Self::UnsupportedParameter(offset) => (FatalErrorStatus::UNSUPPORTED_PARAMETER, offset),
            Self::BeforeInitialization(_)
            | Self::InitializedTwice
            | Self::QueueOverflow
            | Self::DataOrder
            | Self::LastPdu
            | Self::UnexpectedTransfer
            | Self::DataMissing => (FatalErrorStatus::PDU_SEQUENCE_ERROR, 0),
            Self::HeaderDigest(received) => (FatalErrorStatus::HEADER_DIGEST_ERROR, received),
            Self::OutOfRange => (FatalErrorStatus::DATA_TRANSFER_OUT_OF_RANGE, 0),
            Self::DataLimit => (FatalErrorStatus::DATA_TRANSFER_LIMIT_EXCEEDED, 0),
            Self::R2tLimit => (FatalErrorStatus::R2T_LIMIT_EXCEEDED, 0),
            Self::TermReqLength => return None,
        };
        Some(TermReqCause { fes, fei })
    }
}

/// Why a queue says that its stream should be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// We asked for it.
    Requested,
    /// The peer broke the protocol; it was told, as far as the stream took it.
    Violation(Violation),
    /// The peer sent a terminate connection request.
    PeerTerminated(TermReqCause),
}
