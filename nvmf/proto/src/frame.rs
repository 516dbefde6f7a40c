//! The frame of a PDU: what its common header says, checked against what may come (TCP 3.6.1).
//!
//! Fields are checked from the lowest up, because the first wrong one is the one to report.

use nvme_spec::tcp::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, DIGEST_BYTES, FLAG_DDGST, FLAG_HDGST, FLAG_LAST_PDU,
    FLAG_SUCCESS, H2cData, IcReq, PduType, R2t, TermReq,
};

use crate::connection::Negotiated;
use crate::error::Violation;
use crate::limits::TERM_REQ_BYTES_MAX;

/// What may come on one end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// We are the controller.
    to_controller: bool,
    initialized: bool,
    header_digest: bool,
    data_digest: bool,
    alignment_bytes: u8,
}

impl Rules {
    /// Only ICReq (or ICResp) may come.
    pub(crate) const fn before_initialization(to_controller: bool) -> Self {
        Self {
            to_controller,
            initialized: false,
            header_digest: false,
            data_digest: false,
            alignment_bytes: 4,
        }
    }

    pub(crate) const fn of(negotiated: &Negotiated, to_controller: bool) -> Self {
        Self {
            to_controller,
            initialized: true,
            header_digest: negotiated.header_digest,
            data_digest: negotiated.data_digest,
            alignment_bytes: negotiated.receive_alignment_bytes,
        }
    }
}

/// Lengths of the PDU in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) pdu_type: PduType,
    pub(crate) flags: u8,
    /// Header without its digest.
    pub(crate) header_bytes: usize,
    pub(crate) header_digest: bool,
    pub(crate) padding_bytes: usize,
    pub(crate) data_bytes: usize,
    /// A data digest follows the data.
    pub(crate) data_digest: bool,
}

impl Frame {
    pub(crate) const EMPTY: Self = Self {
        pdu_type: PduType::IC_REQ,
        flags: 0,
        header_bytes: 0,
        header_digest: false,
        padding_bytes: 0,
        data_bytes: 0,
        data_digest: false,
    };

    pub(crate) const fn is_last(&self) -> bool {
        self.flags & FLAG_LAST_PDU != 0
    }

    pub(crate) const fn is_success(&self) -> bool {
        self.flags & FLAG_SUCCESS != 0
    }
}

/// Bytes of the header of a type that the peer may send; an error for any other.
fn header_bytes(pdu_type: PduType, rules: &Rules) -> Result<usize, Violation> {
    let (initialize, capsule, terminate) = match rules.to_controller {
        true => (PduType::IC_REQ, PduType::CAPSULE_CMD, PduType::H2C_TERM_REQ),
        false => (PduType::IC_RESP, PduType::CAPSULE_RESP, PduType::C2H_TERM_REQ),
    };
    let bytes = match pdu_type {
        PduType::H2C_DATA if rules.to_controller => size_of::<H2cData>(),
        PduType::C2H_DATA if !rules.to_controller => size_of::<C2hData>(),
        PduType::R2T if !rules.to_controller => size_of::<R2t>(),
        _ if pdu_type == terminate => return Ok(size_of::<TermReq>()),
        _ if pdu_type == initialize && rules.initialized => return Err(Violation::InitializedTwice),
        _ if pdu_type == initialize => return Ok(size_of::<IcReq>()),
        _ if pdu_type == capsule && rules.to_controller => size_of::<CapsuleCmd>(),
        _ if pdu_type == capsule => size_of::<CapsuleResp>(),
        _ => return Err(Violation::PduType(pdu_type.0)),
    };
    if rules.initialized { Ok(bytes) } else { Err(Violation::BeforeInitialization(pdu_type.0)) }
}

/// Checks a common header.
pub(crate) fn check(ch: &CommonHeader, rules: &Rules) -> Result<Frame, Violation> {
    let expected_bytes = header_bytes(ch.pdu_type, rules)?;
    let plen = ch.plen.get() as usize;
    let mut frame =
        Frame { pdu_type: ch.pdu_type, flags: ch.flags, header_bytes: expected_bytes, ..Frame::EMPTY };
    match ch.pdu_type {
        PduType::H2C_TERM_REQ | PduType::C2H_TERM_REQ => {
            let fits = (expected_bytes..=TERM_REQ_BYTES_MAX).contains(&plen);
            let sound = fits && usize::from(ch.hlen) == expected_bytes;
            return if sound { Ok(frame) } else { Err(Violation::TermReqLength) };
        }
        PduType::IC_REQ | PduType::IC_RESP => {
            check_header_length(ch, expected_bytes)?;
            return if plen == expected_bytes { Ok(frame) } else { Err(Violation::PduLength(ch.plen.get())) };
        }
        _ => {}
    }
    frame.header_digest = rules.header_digest;
    let digest_bytes = if rules.header_digest { DIGEST_BYTES } else { 0 };
    let whole_header_bytes = expected_bytes + digest_bytes;
    let may_have_data = !matches!(ch.pdu_type, PduType::CAPSULE_RESP | PduType::R2T);
    let has_data = may_have_data && plen > whole_header_bytes;
    check_flags(ch, rules, has_data)?;
    check_header_length(ch, expected_bytes)?;
    if !has_data && plen != whole_header_bytes {
        return Err(Violation::PduLength(ch.plen.get()));
    }
    if has_data {
        let pdo = usize::from(ch.pdo);
        let aligned = ch.pdo.is_multiple_of(rules.alignment_bytes);
        if pdo < whole_header_bytes || pdo > plen || !aligned {
            return Err(Violation::DataOffset(ch.pdo));
        }
        frame.padding_bytes = pdo - whole_header_bytes;
        frame.data_digest = rules.data_digest;
        let digest_bytes = if rules.data_digest { DIGEST_BYTES } else { 0 };
        let data_bytes = (plen - pdo).checked_sub(digest_bytes).filter(|bytes| *bytes > 0);
        frame.data_bytes = data_bytes.ok_or(Violation::PduLength(ch.plen.get()))?;
    }
    Ok(frame)
}

/// Digests are there exactly when they were agreed on. Flags that are reserved are left alone; that of a data digest says
/// nothing without data.
fn check_flags(ch: &CommonHeader, rules: &Rules, has_data: bool) -> Result<(), Violation> {
    let header = (ch.flags & FLAG_HDGST != 0) == rules.header_digest;
    let data = !has_data || (ch.flags & FLAG_DDGST != 0) == rules.data_digest;
    let success =
        ch.pdu_type != PduType::C2H_DATA || ch.flags & (FLAG_SUCCESS | FLAG_LAST_PDU) != FLAG_SUCCESS;
    if header && data && success { Ok(()) } else { Err(Violation::Flags(ch.flags)) }
}

fn check_header_length(ch: &CommonHeader, expected_bytes: usize) -> Result<(), Violation> {
    if usize::from(ch.hlen) == expected_bytes { Ok(()) } else { Err(Violation::HeaderLength(ch.hlen)) }
}
