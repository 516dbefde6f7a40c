//! Why a login ends without a session.

use crate::chap::ChapError;
use crate::params::ParamError;
use crate::pdu::{LoginStatus, Opcode};
use crate::text::TextError;

/// One failed login: for the log and the counters; the initiator is told [`LoginError::status`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The first PDU is no login request: the connection ends without an answer (section 6.3).
    #[error("the first PDU has opcode {:#04x}, not a login request", .0.0)]
    NotALogin(Opcode),
    /// Another PDU came while the login went on.
    #[error("a PDU with opcode {:#04x} came during login", .0.0)]
    InvalidDuringLogin(Opcode),
    /// The immediate bit is missing, or there is an AHS.
    #[error("a login request has a header that no login request may have")]
    BadHeader,
    /// The data segment is longer than a login allows.
    #[error("a login request has {0} bytes of text")]
    SegmentTooLong(usize),
    /// The initiator speaks no version that we speak.
    #[error("the initiator wants at least version {0}")]
    UnsupportedVersion(u8),
    /// ISID, TSIH, CID, ITT or CmdSN changed within the login.
    #[error("a field that stays the same during login has changed")]
    IdentityChanged,
    /// CSG, NSG, T and C do not go together, or not with where the login is.
    #[error("a login request asks for a stage change that is not allowed")]
    BadStage,
    /// More requests than a login can need.
    #[error("the login takes too many requests")]
    TooManyPdus,
    /// The text is malformed or too long.
    #[error("malformed text: {0}")]
    Text(#[from] TextError),
    /// Text came while a continued response was not yet taken.
    #[error("text came where only an empty request may")]
    UnexpectedText,
    /// A name, alias or session type has a value that is not allowed.
    #[error("a name or the session type is not valid")]
    BadName,
    /// InitiatorName or TargetName is missing.
    #[error("InitiatorName or TargetName is missing")]
    MissingParameter,
    /// SessionType is neither Normal nor Discovery.
    #[error("the session type is not supported")]
    SessionTypeNotSupported,
    /// An operational key failed.
    #[error("negotiation failed: {0}")]
    Param(#[from] ParamError),
    /// A security key came where none may.
    #[error("a security key came where none is expected")]
    UnexpectedSecurityKey,
    /// The initiator offers no authentication method that the target takes, or skips authentication.
    #[error("the initiator offers no authentication that the target accepts")]
    NoAuthMethod,
    /// It offers no algorithm that the target takes.
    #[error("the initiator offers no CHAP algorithm that the target accepts")]
    NoChapAlgorithm,
    /// A key of the CHAP exchange is missing.
    #[error("a CHAP key is missing")]
    MissingChapKey,
    /// CHAP failed.
    #[error("CHAP failed: {0}")]
    Chap(#[from] ChapError),
    /// Too many answers of this peer were wrong: this one was not looked at.
    #[error("too many answers to CHAP challenges were wrong; none is looked at for a while")]
    TooManyFailures,
    /// The target layer redirected.
    #[error("redirected to another portal")]
    Redirected {
        /// For good.
        permanent: bool,
    },
    /// The target layer refused.
    #[error("refused with status {:02x}{:02x}", .0.class, .0.detail)]
    Refused(LoginStatus),
}

impl LoginError {
    /// What the initiator is told; nothing when the connection just ends.
    pub const fn status(self) -> Option<LoginStatus> {
        Some(match self {
            Self::NotALogin(_) => return None,
            Self::InvalidDuringLogin(_) => LoginStatus::INVALID_DURING_LOGIN,
            Self::UnsupportedVersion(_) => LoginStatus::UNSUPPORTED_VERSION,
            Self::MissingParameter => LoginStatus::MISSING_PARAMETER,
            Self::SessionTypeNotSupported => LoginStatus::SESSION_TYPE_NOT_SUPPORTED,
            Self::NoAuthMethod
            | Self::NoChapAlgorithm
            | Self::MissingChapKey
            | Self::UnexpectedSecurityKey
            | Self::Chap(_) => LoginStatus::AUTHENTICATION_FAILURE,
            // Not 0201, after which an initiator gives up: this one may be right.
            Self::TooManyFailures => LoginStatus::SERVICE_UNAVAILABLE,
            Self::Redirected { permanent: false } => LoginStatus::MOVED_TEMPORARILY,
            Self::Redirected { permanent: true } => LoginStatus::MOVED_PERMANENTLY,
            Self::Refused(status) => status,
            Self::BadHeader
            | Self::SegmentTooLong(_)
            | Self::IdentityChanged
            | Self::BadStage
            | Self::TooManyPdus
            | Self::Text(_)
            | Self::UnexpectedText
            | Self::BadName
            | Self::Param(_) => LoginStatus::INITIATOR_ERROR,
        })
    }
}
