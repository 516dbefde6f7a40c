//! Logins through bytes only: a small initiator, a policy that records, every cut.

mod chap;
mod hostile;
mod stages;

use std::collections::VecDeque;

use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::chap::{ChapCredentials, Secret};
use crate::params::SessionType;
use crate::pdu::pad_bytes;
use crate::text::TextPairs;

pub(super) const INITIATOR: &str = "iqn.2024-01.com.example:host";
pub(super) const TARGET: &str = "iqn.2024-01.com.example:disk";
pub(super) const NAMES: &str =
    "InitiatorName=iqn.2024-01.com.example:host;TargetName=iqn.2024-01.com.example:disk;";
pub(super) const DISCOVERY: &str = "InitiatorName=iqn.2024-01.com.example:host;SessionType=Discovery;";
pub(super) const ISID: [u8; 6] = [0x80, 1, 2, 3, 4, 5];

/// Flags of a login request.
pub(super) const fn flags(transit: bool, continued: bool, csg: u8, nsg: u8) -> u8 {
    (transit as u8) << 7 | (continued as u8) << 6 | csg << 2 | nsg
}
pub(super) const SECURITY: u8 = flags(false, false, 0, 0);
pub(super) const SECURITY_TO_OPERATIONAL: u8 = flags(true, false, 0, 1);
pub(super) const SECURITY_TO_FULL: u8 = flags(true, false, 0, 3);
pub(super) const OPERATIONAL: u8 = flags(false, false, 1, 0);
pub(super) const OPERATIONAL_TO_FULL: u8 = flags(true, false, 1, 3);

pub(super) fn header(flags: u8) -> LoginRequest {
    LoginRequest {
        opcode_and_immediate: 0x43,
        flags,
        isid: ISID,
        itt: 0x1234_5678.into(),
        cid: 7.into(),
        cmd_sn: 100.into(),
        exp_stat_sn: 500.into(),
        ..LoginRequest::default()
    }
}

pub(super) fn pdu(mut header: LoginRequest, data: &[u8]) -> Vec<u8> {
    header.data_segment_length = U24::new(data.len());
    let padding = vec![0; pad_bytes(data.len())];
    [header.as_bytes(), data, &padding].concat()
}

/// A request whose text has ';' for NUL.
pub(super) fn request(flags: u8, text: &str) -> Vec<u8> {
    pdu(header(flags), text.replace(';', "\0").as_bytes())
}

/// A policy that answers from its fields and writes down what it was asked.
pub(super) struct Policy {
    pub admission: Admission,
    pub user: Option<(String, Secret)>,
    pub mutual: Option<(String, Secret)>,
    pub establish: VecDeque<Establish>,
    pub window: Option<(u32, u32)>,
    pub paused: bool,
    pub admitted: Vec<LoginIdentity>,
    pub established: Vec<(LoginIdentity, Negotiated)>,
}

impl Policy {
    pub fn new(authentication: AuthPolicy) -> Self {
        Self {
            admission: Admission::Admit(Access::new(authentication, 3)),
            user: None,
            mutual: None,
            establish: VecDeque::from([Establish::Session(0x2a)]),
            window: None,
            paused: false,
            admitted: Vec::new(),
            established: Vec::new(),
        }
    }

    pub fn open() -> Self {
        Self::new(AuthPolicy::open())
    }
}

impl LoginPolicy for Policy {
    fn admit(&mut self, login: &LoginIdentity) -> Admission {
        self.admitted.push(login.clone());
        self.admission.clone()
    }

    fn may_answer(&self, _: &LoginIdentity) -> bool {
        !self.paused
    }

    fn credentials(&self, _: &LoginIdentity, user: &str) -> Option<ChapCredentials<'_>> {
        let (name, secret) = self.user.as_ref()?;
        let mutual = self.mutual.as_ref().map(|(name, secret)| (name.as_str(), secret));
        (name == user).then_some(ChapCredentials { secret, mutual })
    }

    fn establish(&mut self, login: &LoginIdentity, negotiated: &Negotiated) -> Establish {
        self.established.push((login.clone(), negotiated.clone()));
        self.establish.pop_front().expect("asked as often as the test foresees")
    }

    fn command_window(&self, _: &LoginIdentity) -> Option<(u32, u32)> {
        self.window
    }
}

/// One response with its text, ';' for NUL.
#[derive(Debug)]
pub(super) struct Response {
    pub header: LoginResponse,
    pub text: String,
}

impl Response {
    pub fn status(&self) -> LoginStatus {
        LoginStatus { class: self.header.status_class, detail: self.header.status_detail }
    }

    pub fn value(&self, key: &str) -> Option<String> {
        let text = self.text.replace(';', "\0");
        TextPairs::new(text.as_bytes())
            .map(|pair| pair.expect("we write well-formed text"))
            .find_map(|(name, value)| (name == key).then(|| value.to_owned()))
    }
}

/// One connection under test.
pub(super) struct Client {
    pub login: LoginConnection,
    pub policy: Policy,
    next_random: u8,
}

impl Client {
    pub fn new(policy: Policy) -> Self {
        Self { login: LoginConnection::new(LoginConfig::default()), policy, next_random: 1 }
    }

    pub fn handle(&mut self, bytes: &[u8]) -> LoginProgress {
        let next = &mut self.next_random;
        let mut random = |out: &mut [u8]| {
            for byte in out {
                *byte = *next;
                *next = next.wrapping_add(1);
            }
        };
        self.login.handle(bytes, &mut random, &mut self.policy)
    }

    /// Sends all bytes and takes all responses.
    pub fn send(&mut self, bytes: &[u8]) -> (LoginOutcome, Vec<Response>) {
        let progress = self.handle(bytes);
        (progress.outcome, self.responses())
    }

    /// Sends one request that must be answered by one response.
    pub fn ask(&mut self, flags: u8, text: &str) -> (LoginOutcome, Response) {
        let (outcome, mut responses) = self.send(&request(flags, text));
        assert_eq!(responses.len(), 1, "{outcome:?}");
        (outcome, responses.remove(0))
    }

    /// Sends one request that the login must survive.
    pub fn turn(&mut self, flags: u8, text: &str) -> Response {
        let (outcome, response) = self.ask(flags, text);
        assert_eq!(outcome, LoginOutcome::NeedMore);
        assert_eq!(response.status(), LoginStatus::SUCCESS);
        response
    }

    /// Sends one request that must end the login with that error and its status.
    pub fn refused(&mut self, flags: u8, text: &str, error: LoginError) -> Response {
        let (outcome, response) = self.ask(flags, text);
        assert_eq!(outcome, LoginOutcome::Failed(error));
        assert_eq!(Some(response.status()), error.status());
        assert_eq!(response.header.flags & FLAG_FINAL, 0, "a refusal goes nowhere");
        response
    }

    pub fn responses(&mut self) -> Vec<Response> {
        let bytes = self.login.tx().to_vec();
        self.login.tx_advance(bytes.len());
        let mut left = bytes.as_slice();
        let mut responses = Vec::new();
        while !left.is_empty() {
            let (header, rest) = LoginResponse::read_from_prefix(left).expect("whole header");
            let length = header.data_segment_length.get();
            let text = str::from_utf8(&rest[..length]).expect("we write UTF-8").replace('\0', ";");
            left = &rest[length + pad_bytes(length)..];
            responses.push(Response { header, text });
        }
        responses
    }
}

pub(super) fn done(outcome: LoginOutcome) -> LoginDone {
    match outcome {
        LoginOutcome::Done(done) => *done,
        other => panic!("the login should be done: {other:?}"),
    }
}
