//! Body of the fuzz target `login`: a whole login phase from any bytes.

use zerocopy::IntoBytes;

use crate::chap::{ChapCredentials, Secret};
use crate::limits::{LOGIN_DATA_SEGMENT_BYTES_MAX, LOGIN_TEXT_BYTES_MAX};
use crate::login::{
    Access, Admission, AuthPolicy, Establish, LoginConfig, LoginConnection, LoginIdentity, LoginOutcome,
    LoginPolicy,
};
use crate::params::{DigestPolicy, Negotiated, SessionType};
use crate::pdu::{Bhs, LoginRequest, LoginStatus, Opcode, U24, pad_bytes};

/// First byte: 0x01 CHAP is required, 0x02 the rest is raw bytes instead of flags, length, text,
/// 0x04 the policy waits once, 0x08 refuses, 0x10 requires digests, 0x20 joins a session. Second byte: step of the segmentation.
pub fn login(data: &[u8]) {
    let [mode, step, input @ ..] = data else { return };
    let bytes = if mode & 0x02 != 0 { input.to_vec() } else { requests(input, *mode) };
    let whole = run(*mode, &bytes, bytes.len().max(1));
    let cut = run(*mode, &bytes, usize::from(*step).max(1));
    assert_eq!(whole, cut, "segmentation changes nothing");
    if mode & 0x01 != 0 {
        assert!(!whole.done, "nobody guesses the answer to a challenge");
    }
}

/// Login requests with well-formed headers: flags, length in 16-byte units, text.
fn requests(mut input: &[u8], mode: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [flags, units, rest @ ..] = input {
        let (text, left) = rest.split_at(rest.len().min(usize::from(*units) * 16));
        input = left;
        let header = LoginRequest {
            opcode_and_immediate: 0x43,
            flags: *flags,
            data_segment_length: U24::new(text.len()),
            tsih: u16::from(mode & 0x20 != 0).into(),
            ..LoginRequest::default()
        };
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(&[0; 3][..pad_bytes(text.len())]);
    }
    bytes
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    consumed: usize,
    done: bool,
    outcome: LoginOutcome,
    sent: Vec<u8>,
}

fn run(mode: u8, bytes: &[u8], step: usize) -> Outcome {
    let mut login = LoginConnection::new(LoginConfig::default());
    let mut policy = Policy { mode, waits: mode & 0x04 != 0, admitted: false };
    let mut counter = 0u8;
    let mut random = |out: &mut [u8]| {
        for byte in out {
            counter = counter.wrapping_add(1);
            *byte = counter;
        }
    };
    let mut consumed = 0;
    let mut sent = Vec::new();
    loop {
        let end = bytes.len().min(consumed + step);
        let progress = login.handle(&bytes[consumed..end], &mut random, &mut policy);
        consumed += progress.consumed;
        assert!(consumed <= end);
        sent.extend_from_slice(login.tx());
        login.tx_advance(login.tx().len());
        let done = matches!(progress.outcome, LoginOutcome::Done(_));
        match progress.outcome {
            LoginOutcome::NeedMore if consumed < bytes.len() => {
                assert_eq!(consumed, end, "a login takes what it can");
            }
            LoginOutcome::Waiting => {}
            outcome => {
                check_output(&sent);
                let consumed = if done { consumed } else { 0 };
                return Outcome { consumed, done, outcome, sent };
            }
        }
    }
}

/// What went out is login responses of bounded length and nothing else.
fn check_output(mut sent: &[u8]) {
    assert!(sent.len() <= 2 * LOGIN_TEXT_BYTES_MAX + 64 * 1024);
    while let Some((bhs, rest)) = Bhs::from_prefix(sent) {
        assert_eq!(bhs.opcode(), Opcode::LOGIN_RESPONSE);
        let length = bhs.data_bytes();
        assert!(length <= LOGIN_DATA_SEGMENT_BYTES_MAX);
        sent = &rest[length + pad_bytes(length)..];
    }
    assert!(sent.is_empty());
}

struct Policy {
    mode: u8,
    waits: bool,
    admitted: bool,
}

impl LoginPolicy for Policy {
    fn admit(&mut self, login: &LoginIdentity) -> Admission {
        assert!(!self.admitted, "asked once");
        self.admitted = true;
        assert_eq!(login.session_type == SessionType::Discovery, login.target_name.is_none());
        if self.mode & 0x08 != 0 && login.initiator_name.len().is_multiple_of(2) {
            return Admission::Refuse(LoginStatus::NOT_FOUND);
        }
        let authentication = if self.mode & 0x01 != 0 { AuthPolicy::chap() } else { AuthPolicy::open() };
        let mut access = Access::new(authentication, 1);
        if self.mode & 0x10 != 0 {
            access.header_digest = DigestPolicy::Require;
        }
        Admission::Admit(access)
    }

    fn credentials(&self, _: &LoginIdentity, _: &str) -> Option<ChapCredentials<'_>> {
        None::<&Secret>.map(|secret| ChapCredentials { secret, mutual: None })
    }

    fn establish(&mut self, login: &LoginIdentity, negotiated: &Negotiated) -> Establish {
        assert!(self.admitted);
        assert!(negotiated.first_burst_length <= negotiated.max_burst_length);
        assert!(negotiated.max_outstanding_r2t > 0 && negotiated.max_connections > 0);
        assert_eq!(negotiated.error_recovery_level, 0);
        if core::mem::take(&mut self.waits) {
            return Establish::Wait;
        }
        Establish::Session(login.tsih.max(1))
    }
}
