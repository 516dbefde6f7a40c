//! Where a fresh connection wants to go, read from its first bytes without any state.

use zerocopy::FromBytes;

use super::handshake::name;
use crate::limits::LOGIN_DATA_SEGMENT_BYTES_MAX;
use crate::pdu::{BHS_BYTES, Bhs, LoginRequest, Opcode};
use crate::text::TextPairs;

/// What the first bytes of a connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peek {
    /// The first PDU is not whole yet; it has at most [`PEEK_BYTES_MAX`] bytes.
    NeedMore,
    /// A login to that target, in lower case.
    Target(String),
    /// A discovery session.
    Discovery,
    /// Neither: a [`super::LoginConnection`] anywhere gives the proper refusal.
    Invalid,
}

/// Largest first PDU that is waited for, in bytes.
pub const PEEK_BYTES_MAX: usize = BHS_BYTES + LOGIN_DATA_SEGMENT_BYTES_MAX;

/// Finds the target of the first login request.
///
/// An initiator whose first request is continued (C bit) before TargetName is `Invalid`: it sends nothing more
/// before it has an answer, and no answer may be given before the target is known.
pub fn first_login_target(bytes: &[u8]) -> Peek {
    let Some((bhs, _)) = Bhs::from_prefix(bytes) else {
        let wrong = bytes.first().is_some_and(|byte| byte & 0x3f != Opcode::LOGIN_REQUEST.0);
        return if wrong { Peek::Invalid } else { Peek::NeedMore };
    };
    if bhs.opcode() != Opcode::LOGIN_REQUEST
        || bhs.total_ahs_length_words != 0
        || bhs.data_bytes() > LOGIN_DATA_SEGMENT_BYTES_MAX
    {
        return Peek::Invalid;
    }
    if bytes.len() < bhs.layout(false, false).total_bytes {
        return Peek::NeedMore;
    }
    let (request, data) = LoginRequest::ref_from_prefix(bytes).expect("as long as the header just read");
    let mut text = &data[..request.data_segment_length.get()];
    if request.is_continued() {
        // The last pair may be cut.
        let end = text.iter().rposition(|&byte| byte == 0).map_or(0, |last| last + 1);
        text = &text[..end];
    }
    target_of(text)
}

fn target_of(text: &[u8]) -> Peek {
    let mut target = None;
    for pair in TextPairs::new(text) {
        match pair {
            Ok(("TargetName", value)) => target = Some(value),
            Ok(("SessionType", "Discovery")) => return Peek::Discovery,
            Ok(_) => {}
            Err(_) => return Peek::Invalid,
        }
    }
    match target.map(name) {
        Some(Ok(target)) => Peek::Target(target),
        _ => Peek::Invalid,
    }
}
