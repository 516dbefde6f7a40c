//! Login as a state machine that a test can hold at any step: build a [`Login`], run it, or send its
//! PDUs one by one.

use std::net::SocketAddr;

use crate::chap::{self, Credentials};
use crate::limits;
use crate::pdu::{Digests, FINAL, IMMEDIATE, Pdu, opcode, parse_text, text_segment};
use crate::session::Session;
use crate::wire::{Wire, WireError};

/// Security negotiation.
pub const SECURITY: u8 = 0;
/// Login operational negotiation.
pub const OPERATIONAL: u8 = 1;
/// Full feature phase.
pub const FULL_FEATURE: u8 = 3;

/// How to prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// AuthMethod=None.
    None,
    /// CHAP towards the target, and with `mutual` also the target's proof towards us.
    Chap {
        /// Our name and secret.
        credentials: Credentials,
        /// The target's name and secret, when it has to prove itself as well.
        mutual: Option<Credentials>,
    },
}

/// What a login says. The defaults are a correct normal session with one command window of the target's.
#[derive(Clone, Debug)]
pub struct Login {
    /// InitiatorName.
    pub initiator_name: String,
    /// TargetName; `None` asks for a discovery session.
    pub target_name: Option<String>,
    /// Six bytes that, with the initiator name, name the session.
    pub isid: [u8; 6],
    /// Session handle; 0 for a new session.
    pub tsih: u16,
    /// Connection id.
    pub cid: u16,
    /// First CmdSN.
    pub cmd_sn: u32,
    /// Authentication.
    pub auth: Auth,
    /// Digests asked for.
    pub digests: Digests,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// Further keys of the operational stage, sent after the usual ones.
    pub extra_keys: Vec<(String, String)>,
}

/// What the target agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Session handle given by the target.
    pub tsih: u16,
    /// The longest data segment the target takes.
    pub send_data_segment_bytes_max: usize,
    /// MaxBurstLength.
    pub burst_bytes_max: usize,
    /// FirstBurstLength.
    pub first_burst_bytes_max: usize,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// Every key the target sent, in order.
    pub keys: Vec<(String, String)>,
}

/// How a login ended.
#[derive(Debug)]
pub enum LoginOutcome {
    /// In full feature phase.
    Session(Box<Session>),
    /// Refused with this status class and detail (RFC 7143, 11.13.5).
    Refused(u8, u8),
}

impl Login {
    /// A normal session of `initiator_name` with `target_name`.
    #[must_use]
    pub fn normal(initiator_name: &str, target_name: &str) -> Self {
        Self { target_name: Some(target_name.to_owned()), ..Self::discovery(initiator_name) }
    }

    /// A discovery session.
    #[must_use]
    pub fn discovery(initiator_name: &str) -> Self {
        Self {
            initiator_name: initiator_name.to_owned(),
            target_name: None,
            isid: [0x80, 0x12, 0x34, 0, 0, 1],
            tsih: 0,
            cid: 0,
            cmd_sn: 1,
            auth: Auth::None,
            digests: Digests::default(),
            initial_r2t: false,
            immediate_data: true,
            extra_keys: Vec::new(),
        }
    }

    /// The same with another session qualifier, for several sessions of one initiator.
    #[must_use]
    pub fn with_qualifier(mut self, qualifier: u16) -> Self {
        self.isid[4..].copy_from_slice(&qualifier.to_be_bytes());
        self
    }

    /// Connects and logs in; a refusal is an error.
    pub fn session(&self, portal: SocketAddr) -> Result<Session, WireError> {
        match self.run(Wire::connect(portal)?)? {
            LoginOutcome::Session(session) => Ok(*session),
            LoginOutcome::Refused(..) => Err(WireError::Protocol("the login was refused")),
        }
    }

    /// A login request of this stage pair with these pairs as data.
    #[must_use]
    pub fn request(&self, current: u8, next: Option<u8>, data: Vec<u8>) -> Pdu {
        let flags = current << 2 | next.map_or(0, |next| FINAL | next);
        let mut pdu = Pdu::new(opcode::LOGIN | IMMEDIATE, flags).with_data(data);
        pdu.bhs[8..14].copy_from_slice(&self.isid);
        pdu.bhs[14..16].copy_from_slice(&self.tsih.to_be_bytes());
        pdu.set_itt(0x1000);
        pdu.bhs[20..22].copy_from_slice(&self.cid.to_be_bytes());
        pdu.set_word(24, self.cmd_sn);
        pdu
    }

    /// The keys that name both ends; the first request of every login carries them.
    #[must_use]
    pub fn names(&self) -> Vec<(String, String)> {
        let mut pairs = vec![("InitiatorName".to_owned(), self.initiator_name.clone())];
        match &self.target_name {
            Some(name) => {
                pairs.push(("SessionType".to_owned(), "Normal".to_owned()));
                pairs.push(("TargetName".to_owned(), name.clone()));
            }
            None => pairs.push(("SessionType".to_owned(), "Discovery".to_owned())),
        }
        pairs
    }

    /// The keys of the operational stage.
    #[must_use]
    pub fn operational_keys(&self) -> Vec<(String, String)> {
        let yes_no = |yes| if yes { "Yes" } else { "No" };
        let digest = |on| if on { "CRC32C" } else { "None" };
        let mut pairs: Vec<(String, String)> = [
            ("HeaderDigest", digest(self.digests.header).to_owned()),
            ("DataDigest", digest(self.digests.data).to_owned()),
            ("MaxRecvDataSegmentLength", limits::RECV_DATA_SEGMENT_BYTES_MAX.to_string()),
            ("DefaultTime2Wait", "0".to_owned()),
            ("DefaultTime2Retain", "0".to_owned()),
            ("ErrorRecoveryLevel", "0".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        if self.target_name.is_some() {
            pairs.extend(
                [
                    ("InitialR2T", yes_no(self.initial_r2t).to_owned()),
                    ("ImmediateData", yes_no(self.immediate_data).to_owned()),
                    ("MaxBurstLength", limits::BURST_BYTES_MAX.to_string()),
                    ("FirstBurstLength", limits::FIRST_BURST_BYTES_MAX.to_string()),
                    ("MaxOutstandingR2T", "1".to_owned()),
                    ("MaxConnections", "1".to_owned()),
                    ("DataPDUInOrder", "Yes".to_owned()),
                    ("DataSequenceInOrder", "Yes".to_owned()),
                ]
                .map(|(key, value)| (key.to_owned(), value)),
            );
        }
        pairs.extend(self.extra_keys.iter().cloned());
        pairs
    }

    /// Runs the whole login on `wire`.
    pub fn run(&self, mut wire: Wire) -> Result<LoginOutcome, WireError> {
        let mut status_sn = 0;
        let mut keys = match self.run_security(&mut wire, &mut status_sn)? {
            Ok(keys) => keys,
            Err((class, detail)) => return Ok(LoginOutcome::Refused(class, detail)),
        };
        let mut data = text_segment(&self.operational_keys());
        for _ in 0..limits::LOGIN_STEPS_MAX {
            let request = self.request(OPERATIONAL, Some(FULL_FEATURE), std::mem::take(&mut data));
            let reply = match exchange(&mut wire, request, &mut status_sn)? {
                Ok(reply) => reply,
                Err((class, detail)) => return Ok(LoginOutcome::Refused(class, detail)),
            };
            keys.extend(parse_text(&reply.data));
            if reply.bhs[1] & FINAL != 0 {
                let agreed = self.agreed(&reply, keys);
                wire.digests = agreed_digests(&agreed.keys);
                return Ok(LoginOutcome::Session(Box::new(Session::new(wire, self, agreed, &reply))));
            }
        }
        Err(WireError::Protocol("the login does not come to an end"))
    }

    fn run_security(&self, wire: &mut Wire, status_sn: &mut u32) -> Result<SecurityOutcome, WireError> {
        let mut pairs = self.names();
        let Auth::Chap { credentials, mutual } = &self.auth else {
            pairs.push(("AuthMethod".to_owned(), "None".to_owned()));
            let request = self.request(SECURITY, Some(OPERATIONAL), text_segment(&pairs));
            return Ok(exchange(wire, request, status_sn)?.map(|reply| parse_text(&reply.data)));
        };
        pairs.push(("AuthMethod".to_owned(), "CHAP".to_owned()));
        let request = self.request(SECURITY, None, text_segment(&pairs));
        if let Err(refused) = exchange(wire, request, status_sn)? {
            return Ok(Err(refused));
        }
        let request = self.request(SECURITY, None, text_segment(&[("CHAP_A", "5")]));
        let reply = match exchange(wire, request, status_sn)? {
            Ok(reply) => parse_text(&reply.data),
            Err(refused) => return Ok(Err(refused)),
        };
        let (identifier, challenge) = challenge_of(&reply)?;
        let mut answer = vec![
            ("CHAP_N", credentials.name.clone()),
            ("CHAP_R", chap::response(identifier, &credentials.secret, &challenge)),
        ];
        let own_challenge: Vec<u8> = challenge.iter().map(|byte| byte ^ 0x5a).collect();
        if mutual.is_some() {
            answer.push(("CHAP_I", "7".to_owned()));
            answer.push(("CHAP_C", chap::encode_hex(&own_challenge)));
        }
        let request = self.request(SECURITY, Some(OPERATIONAL), text_segment(&answer));
        let reply = match exchange(wire, request, status_sn)? {
            Ok(reply) => parse_text(&reply.data),
            Err(refused) => return Ok(Err(refused)),
        };
        if let Some(target) = mutual {
            let expected = chap::response(7, &target.secret, &own_challenge);
            let proved = value(&reply, "CHAP_N") == Some(target.name.as_str())
                && value(&reply, "CHAP_R").is_some_and(|given| given.eq_ignore_ascii_case(&expected));
            if !proved {
                return Err(WireError::Protocol("the target did not prove its name"));
            }
        }
        Ok(Ok(reply))
    }

    fn agreed(&self, last_reply: &Pdu, keys: Vec<(String, String)>) -> Agreed {
        let number = |key: &str, default: usize| {
            value(&keys, key).and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        let yes = |key: &str, default: bool| value(&keys, key).map_or(default, |text| text == "Yes");
        Agreed {
            tsih: u16::from_be_bytes([last_reply.bhs[14], last_reply.bhs[15]]),
            send_data_segment_bytes_max: number("MaxRecvDataSegmentLength", 8192),
            burst_bytes_max: number("MaxBurstLength", limits::BURST_BYTES_MAX as usize),
            first_burst_bytes_max: number("FirstBurstLength", limits::FIRST_BURST_BYTES_MAX as usize),
            initial_r2t: yes("InitialR2T", self.initial_r2t),
            immediate_data: yes("ImmediateData", self.immediate_data),
            keys,
        }
    }
}

/// Keys of the target, or its status class and detail.
type SecurityOutcome = Result<Vec<(String, String)>, (u8, u8)>;

fn agreed_digests(keys: &[(String, String)]) -> Digests {
    let on = |key: &str| value(keys, key) == Some("CRC32C");
    Digests { header: on("HeaderDigest"), data: on("DataDigest") }
}

/// The last value of `key`.
#[must_use]
pub fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn challenge_of(keys: &[(String, String)]) -> Result<(u8, Vec<u8>), WireError> {
    let identifier = value(keys, "CHAP_I").and_then(|text| text.parse().ok());
    let challenge = value(keys, "CHAP_C").and_then(chap::decode_hex);
    identifier.zip(challenge).ok_or(WireError::Protocol("no CHAP challenge"))
}

/// Sends a login request and returns the reply, or the status that refused it.
pub fn exchange(
    wire: &mut Wire,
    mut request: Pdu,
    status_sn: &mut u32,
) -> Result<Result<Pdu, (u8, u8)>, WireError> {
    request.set_word(28, *status_sn);
    wire.send(&request)?;
    let reply = wire.recv()?;
    match reply.opcode() {
        opcode::LOGIN_RESPONSE => {}
        opcode::REJECT => return Err(WireError::Rejected(reply.bhs[2])),
        _ => return Err(WireError::Protocol("no login response")),
    }
    if reply.bhs[36] != 0 {
        return Ok(Err((reply.bhs[36], reply.bhs[37])));
    }
    *status_sn = reply.word(24).wrapping_add(1);
    Ok(Ok(reply))
}
