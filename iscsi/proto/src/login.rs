//! The login phase of one connection (RFC 7143 sections 6.3 and 11.12).
//!
//! ```text
//!            first request: names → policy.admit
//!                 │
//!   CSG=0 ┌───────▼────────┐  T, NSG=1   ┌─────────────┐
//!  ──────►│    security    ├────────────►│ operational │◄────── CSG=1 (only where no authentication is required)
//!         │ none or CHAP   │             │ parameters  │
//!         └───────┬────────┘             └──────┬──────┘
//!                 │ T, NSG=3                    │ T, NSG=3
//!                 └──────────────┬──────────────┘
//!                        policy.establish ── Wait ─┐
//!                                │     ▲───────────┘ asked again by the next `handle`
//!                         full feature phase
//! ```
//!
//! Anything else ends the login: a response with a status, then the connection closes. The caller bounds the
//! time; requests, text and segments are bounded here. Digests are never in use during login.

mod handshake;
mod peek;
mod policy;
mod security;
mod stage;

pub use crate::error::LoginError;
pub use peek::{PEEK_BYTES_MAX, Peek, first_login_target};
pub use policy::{Access, Admission, AuthPolicy, Establish, LoginIdentity, LoginPolicy};

use zerocopy::{FromBytes, IntoBytes};

use crate::limits::{LOGIN_DATA_SEGMENT_BYTES_MAX, LOGIN_PDUS_MAX};
use crate::params::{Negotiated, Offers};
use crate::pdu::{
    BHS_BYTES, Bhs, FLAG_CONTINUE, FLAG_FINAL, LoginRequest, LoginResponse, LoginStatus, Opcode, U24,
    pad_bytes,
};
use handshake::{Handshake, Step};
use stage::StageRequest;

/// What a target brings to every login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginConfig {
    /// Our side of the parameter negotiation.
    pub offers: Offers,
    /// Commands that a new session may send at once: MaxCmdSN is CmdSN plus this minus one.
    pub command_window: u32,
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self { offers: Offers::default(), command_window: 128 }
    }
}

/// A connection that may enter the full feature phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginDone {
    /// Who, to what; its `tsih` is the one of the session.
    pub identity: LoginIdentity,
    /// True when this connection started the session.
    pub leading: bool,
    /// The user that CHAP proved, if it was used.
    pub chap_user: Option<String>,
    /// What was agreed. Session-wide values are those of the leading connection; of one that joins, only the
    /// digests and segment lengths count.
    pub negotiated: Negotiated,
    /// CmdSN of the login: of a new session, the number of its first command.
    pub cmd_sn: u32,
    /// StatSN of the next response on this connection.
    pub stat_sn: u32,
}

/// Where the login stands after [`LoginConnection::handle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// Bytes are missing, or the initiator's next request is.
    NeedMore,
    /// The policy said `Wait`. Nothing is consumed until it says something else: call again, with no bytes too.
    Waiting,
    /// Done. What `handle` did not consume belongs to the full feature phase; output goes out first.
    Done(Box<LoginDone>),
    /// Over. Close once the output is gone.
    Failed(LoginError),
}

/// Result of [`LoginConnection::handle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginProgress {
    /// How many of the bytes were taken.
    pub consumed: usize,
    /// What now.
    pub outcome: LoginOutcome,
}

/// What stays the same during one login, from its first request.
#[derive(Clone, Copy, Debug)]
struct Head {
    isid: [u8; 6],
    tsih: u16,
    cid: u16,
    itt: u32,
    cmd_sn: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Running,
    Waiting(StageRequest),
    Done,
    Failed(LoginError),
}

/// One connection during login.
pub struct LoginConnection {
    config: LoginConfig,
    state: State,
    /// The PDU being received: never more than a header and the largest login segment.
    rx: Vec<u8>,
    tx: Vec<u8>,
    tx_taken: usize,
    head: Option<Head>,
    stat_sn: u32,
    requests: u32,
    handshake: Handshake,
}

impl LoginConnection {
    /// A connection that has sent nothing.
    pub fn new(config: LoginConfig) -> Self {
        assert!(config.command_window > 0, "a session without a command window hangs");
        let handshake = Handshake::new(config.offers.clone());
        Self {
            config,
            state: State::Running,
            rx: Vec::new(),
            tx: Vec::new(),
            tx_taken: 0,
            head: None,
            stat_sn: 0,
            requests: 0,
            handshake,
        }
    }

    /// Takes received bytes. `random` fills a slice with unpredictable bytes (CHAP challenges).
    ///
    /// # Panics
    /// When called again after `Done`.
    pub fn handle(
        &mut self,
        bytes: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
        policy: &mut dyn LoginPolicy,
    ) -> LoginProgress {
        let mut consumed = 0;
        let outcome = match self.run(bytes, &mut consumed, random, policy) {
            Ok(outcome) => outcome,
            Err(error) => {
                self.fail(error, policy);
                LoginOutcome::Failed(error)
            }
        };
        LoginProgress { consumed, outcome }
    }

    /// Bytes to send.
    pub fn tx(&self) -> &[u8] {
        &self.tx[self.tx_taken..]
    }

    /// Says that the first `length_bytes` of [`Self::tx`] are sent.
    pub fn tx_advance(&mut self, length_bytes: usize) {
        assert!(length_bytes <= self.tx().len(), "more was sent than there was to send");
        self.tx_taken += length_bytes;
        if self.tx_taken == self.tx.len() {
            self.tx.clear();
            self.tx_taken = 0;
        }
    }

    fn run(
        &mut self,
        bytes: &[u8],
        consumed: &mut usize,
        random: &mut dyn FnMut(&mut [u8]),
        policy: &mut dyn LoginPolicy,
    ) -> Result<LoginOutcome, LoginError> {
        loop {
            let step = match self.state {
                State::Done => panic!("a login that is done takes no more bytes"),
                State::Failed(error) => return Ok(LoginOutcome::Failed(error)),
                State::Waiting(stage) => self.respond(stage, policy)?,
                State::Running => {
                    if !self.receive(bytes, consumed)? {
                        return Ok(LoginOutcome::NeedMore);
                    }
                    self.on_request(random, policy)?
                }
            };
            match step {
                Step::Next => self.state = State::Running,
                Step::Wait(stage) => {
                    self.state = State::Waiting(stage);
                    return Ok(LoginOutcome::Waiting);
                }
                Step::Done(tsih) => {
                    self.state = State::Done;
                    return Ok(LoginOutcome::Done(Box::new(self.done(tsih))));
                }
            }
        }
    }

    /// Gathers one PDU in `rx`; true when it is whole. The header is judged before any data is kept.
    fn receive(&mut self, bytes: &[u8], consumed: &mut usize) -> Result<bool, LoginError> {
        let mut take = |rx: &mut Vec<u8>, length_bytes: usize| {
            let left = &bytes[*consumed..];
            let part = &left[..left.len().min(length_bytes - rx.len())];
            rx.extend_from_slice(part);
            *consumed += part.len();
            rx.len() == length_bytes
        };
        if self.rx.len() < BHS_BYTES {
            if !take(&mut self.rx, BHS_BYTES) {
                return Ok(false);
            }
            self.check_header()?;
        }
        let layout = self.bhs().layout(false, false);
        Ok(take(&mut self.rx, layout.total_bytes))
    }

    fn bhs(&self) -> &Bhs {
        Bhs::from_prefix(&self.rx).expect("asked for only behind a whole header").0
    }

    fn check_header(&mut self) -> Result<(), LoginError> {
        let bhs = self.bhs();
        let opcode = bhs.opcode();
        if opcode != Opcode::LOGIN_REQUEST {
            return Err(match self.head {
                None => LoginError::NotALogin(opcode),
                Some(_) => LoginError::InvalidDuringLogin(opcode),
            });
        }
        if !bhs.is_immediate() || bhs.total_ahs_length_words != 0 {
            return Err(LoginError::BadHeader);
        }
        if bhs.data_bytes() > LOGIN_DATA_SEGMENT_BYTES_MAX {
            return Err(LoginError::SegmentTooLong(bhs.data_bytes()));
        }
        self.requests += 1;
        if self.requests > LOGIN_PDUS_MAX {
            return Err(LoginError::TooManyPdus);
        }
        let request = *LoginRequest::view(self.bhs());
        self.check_head(&request)
    }

    /// Version and identity: set by the first request, the same in all that follow.
    fn check_head(&mut self, request: &LoginRequest) -> Result<(), LoginError> {
        let head = Head {
            isid: request.isid,
            tsih: request.tsih.get(),
            cid: request.cid.get(),
            itt: request.itt.get(),
            cmd_sn: request.cmd_sn.get(),
        };
        let Some(first) = self.head else {
            self.head = Some(head);
            // The first response carries what the initiator expects; any start value is allowed.
            self.stat_sn = request.exp_stat_sn.get();
            if request.version_min > 0 {
                return Err(LoginError::UnsupportedVersion(request.version_min));
            }
            return Ok(());
        };
        let same = first.isid == head.isid
            && first.tsih == head.tsih
            && first.cid == head.cid
            && first.itt == head.itt
            // A session that is up counts on while a further connection logs in.
            && (first.cmd_sn == head.cmd_sn || first.tsih != 0);
        if same { Ok(()) } else { Err(LoginError::IdentityChanged) }
    }

    /// Who logs in, once the first request has said so.
    pub fn identity(&self) -> Option<&LoginIdentity> {
        self.handshake.identity()
    }

    fn on_request(
        &mut self,
        random: &mut dyn FnMut(&mut [u8]),
        policy: &mut dyn LoginPolicy,
    ) -> Result<Step, LoginError> {
        let rx = core::mem::take(&mut self.rx);
        let (request, data) =
            LoginRequest::ref_from_prefix(&rx).expect("asked for only behind a whole header");
        let data = &data[..request.data_segment_length.get()];
        let stage = StageRequest::parse(request)?;
        let head = self.head.expect("set by the first header");
        self.handshake.on_text((head.isid, head.tsih, head.cid), stage, data, random, policy)?;
        self.respond(stage, policy)
    }

    /// Answers the request, unless the policy lets it wait.
    fn respond(&mut self, stage: StageRequest, policy: &mut dyn LoginPolicy) -> Result<Step, LoginError> {
        let reply = self.handshake.reply(stage, policy)?;
        let Some(reply) = reply else { return Ok(Step::Wait(stage)) };
        let mut flags = stage.current.to_wire() << 2;
        if reply.continued {
            flags |= FLAG_CONTINUE;
        }
        if let Some(next) = reply.transit {
            flags |= FLAG_FINAL | next.to_wire();
        }
        let tsih = reply.tsih.unwrap_or(self.head.map_or(0, |head| head.tsih));
        self.send(flags, tsih, LoginStatus::SUCCESS, &reply.text, policy);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        Ok(reply.tsih.map_or(Step::Next, Step::Done))
    }

    fn fail(&mut self, error: LoginError, policy: &dyn LoginPolicy) {
        self.state = State::Failed(error);
        let Some(status) = error.status() else { return };
        let text = self.handshake.redirect_text();
        let tsih = self.head.map_or(0, |head| head.tsih);
        let flags = self.handshake.stage_flags();
        self.send(flags, tsih, status, &text, policy);
    }

    fn send(&mut self, flags: u8, tsih: u16, status: LoginStatus, text: &[u8], policy: &dyn LoginPolicy) {
        let (isid, itt) = self.head.map_or(([0; 6], 0), |head| (head.isid, head.itt));
        let (exp_cmd_sn, max_cmd_sn) = self.command_window(policy);
        let response = LoginResponse {
            opcode: Opcode::LOGIN_RESPONSE,
            flags,
            data_segment_length: U24::new(text.len()),
            isid,
            tsih: tsih.into(),
            itt: itt.into(),
            stat_sn: self.stat_sn.into(),
            exp_cmd_sn: exp_cmd_sn.into(),
            max_cmd_sn: max_cmd_sn.into(),
            status_class: status.class,
            status_detail: status.detail,
            ..LoginResponse::default()
        };
        self.tx.extend_from_slice(response.as_bytes());
        self.tx.extend_from_slice(text);
        self.tx.extend_from_slice(&[0; 3][..pad_bytes(text.len())]);
    }

    fn command_window(&self, policy: &dyn LoginPolicy) -> (u32, u32) {
        let Some(head) = self.head else { return (0, 0) };
        if head.tsih == 0 {
            return (head.cmd_sn, head.cmd_sn.wrapping_add(self.config.command_window - 1));
        }
        let known = self.handshake.identity().and_then(|login| policy.command_window(login));
        // An initiator ignores a MaxCmdSN below the one it knows, so this closes nothing.
        known.unwrap_or((head.cmd_sn, head.cmd_sn.wrapping_sub(1)))
    }

    fn done(&mut self, tsih: u16) -> LoginDone {
        let head = self.head.expect("a login that is done had a first request");
        let (identity, chap_user, negotiated) = self.handshake.finish();
        LoginDone {
            leading: identity.is_leading(),
            identity: LoginIdentity { tsih, ..identity },
            chap_user,
            negotiated,
            cmd_sn: head.cmd_sn,
            stat_sn: self.stat_sn,
        }
    }
}

#[cfg(test)]
mod tests;
