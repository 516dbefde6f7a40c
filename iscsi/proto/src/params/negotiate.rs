//! Answers the initiator's operational keys (RFC 7143 sections 6.2 and 13).
//!
//! Result functions: AND, OR, minimum, maximum, first acceptable list value, or a declaration that needs no answer.
//! A value that is not admissible is answered `Reject` and the default stays; a key that was negotiated
//! before, that only a target may send, or a declaration with a bad value ends the login.

use core::ops::RangeInclusive;

use super::{DigestPolicy, DigestType, Negotiated, Offers, SessionType};
use crate::text::{TextWriter, parse_boolean, parse_list, parse_number};

/// Login stage in which a key arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// SecurityNegotiation, 0.
    Security,
    /// LoginOperationalNegotiation, 1.
    Operational,
    /// FullFeaturePhase, 3.
    FullFeature,
}

/// Why a negotiation ends the login. All are initiator errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// A key came twice.
    #[error("a key was negotiated or declared twice")]
    Repeated,
    /// A key that only a target may send, or that belongs to no login.
    #[error("a key that an initiator may not send here")]
    NotAllowed,
    /// A declaration with a value out of range.
    #[error("a declaration has a value out of range")]
    BadDeclaration,
    /// FirstBurstLength was agreed and MaxBurstLength came out smaller.
    #[error("FirstBurstLength exceeds MaxBurstLength")]
    BurstOrder,
    /// The target requires a digest and the initiator did not agree to it.
    #[error("the target requires a digest that the initiator did not offer")]
    DigestRequired,
}

/// Operational keys, with their bit in the set of keys seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    HeaderDigest,
    DataDigest,
    MaxConnections,
    InitialR2t,
    ImmediateData,
    MaxRecvDataSegmentLength,
    MaxBurstLength,
    FirstBurstLength,
    DefaultTime2Wait,
    DefaultTime2Retain,
    MaxOutstandingR2t,
    DataPduInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
    ProtocolLevel,
    TaskReporting,
    IfMarker,
    OfMarker,
    IfMarkInt,
    OfMarkInt,
    NodeArchitecture,
    SendTargets,
    TargetOnly,
}

const KEYS: [(&str, Key); 25] = [
    ("HeaderDigest", Key::HeaderDigest),
    ("DataDigest", Key::DataDigest),
    ("MaxConnections", Key::MaxConnections),
    ("InitialR2T", Key::InitialR2t),
    ("ImmediateData", Key::ImmediateData),
    ("MaxRecvDataSegmentLength", Key::MaxRecvDataSegmentLength),
    ("MaxBurstLength", Key::MaxBurstLength),
    ("FirstBurstLength", Key::FirstBurstLength),
    ("DefaultTime2Wait", Key::DefaultTime2Wait),
    ("DefaultTime2Retain", Key::DefaultTime2Retain),
    ("MaxOutstandingR2T", Key::MaxOutstandingR2t),
    ("DataPDUInOrder", Key::DataPduInOrder),
    ("DataSequenceInOrder", Key::DataSequenceInOrder),
    ("ErrorRecoveryLevel", Key::ErrorRecoveryLevel),
    ("iSCSIProtocolLevel", Key::ProtocolLevel),
    ("TaskReporting", Key::TaskReporting),
    ("IFMarker", Key::IfMarker),
    ("OFMarker", Key::OfMarker),
    ("IFMarkInt", Key::IfMarkInt),
    ("OFMarkInt", Key::OfMarkInt),
    ("X#NodeArchitecture", Key::NodeArchitecture),
    ("SendTargets", Key::SendTargets),
    ("TargetAlias", Key::TargetOnly),
    ("TargetAddress", Key::TargetOnly),
    ("TargetPortalGroupTag", Key::TargetOnly),
];

const SEGMENT_BYTES: RangeInclusive<u32> = 512..=0x00ff_ffff;
const COUNT: RangeInclusive<u32> = 1..=65_535;
const SECONDS: RangeInclusive<u32> = 0..=3_600;
const LEVELS: RangeInclusive<u32> = 0..=31;
/// What iSCSIProtocolLevel we speak: RFC 7143.
const PROTOCOL_LEVEL: u16 = 1;

/// The answer to one key.
enum Answer {
    Number(u32),
    Boolean(bool),
    Word(&'static str),
    /// Declarations, and what is answered later.
    Nothing,
}

const REJECT: Answer = Answer::Word("Reject");
const IRRELEVANT: Answer = Answer::Word("Irrelevant");

/// The negotiation of one connection.
#[derive(Clone, Debug)]
pub struct Negotiator {
    offers: Offers,
    header_digest: DigestPolicy,
    data_digest: DigestPolicy,
    session_type: SessionType,
    leading: bool,
    seen: u32,
    first_burst_offer: Option<u32>,
    first_burst_agreed: bool,
    values: Negotiated,
}

impl Negotiator {
    /// `leading` is false for a connection that joins a session: session-wide keys are then irrelevant.
    pub fn new(
        offers: Offers,
        header_digest: DigestPolicy,
        data_digest: DigestPolicy,
        session_type: SessionType,
        leading: bool,
    ) -> Self {
        assert!(SEGMENT_BYTES.contains(&offers.max_recv_data_segment_length));
        assert!(SEGMENT_BYTES.contains(&offers.max_burst_length));
        assert!(SEGMENT_BYTES.contains(&offers.first_burst_length));
        assert!(offers.max_connections > 0 && offers.max_outstanding_r2t > 0);
        assert!(SECONDS.contains(&offers.default_time2wait_s.into()));
        assert!(SECONDS.contains(&offers.default_time2retain_s.into()));
        Self {
            offers,
            header_digest,
            data_digest,
            session_type,
            leading,
            seen: 0,
            first_burst_offer: None,
            first_burst_agreed: false,
            values: Negotiated::default(),
        }
    }

    /// Says what we take, once, in the operational stage.
    pub fn declare(&mut self, out: &mut TextWriter) {
        let length = self.offers.max_recv_data_segment_length;
        out.number("MaxRecvDataSegmentLength", length);
        self.values.our_max_recv_data_segment_length = length;
    }

    /// Answers one key of the initiator into `out`. Unknown keys are answered `NotUnderstood`.
    pub fn offer(
        &mut self,
        stage: Stage,
        name: &str,
        value: &str,
        out: &mut TextWriter,
    ) -> Result<(), ParamError> {
        let Some(&(_, key)) = KEYS.iter().find(|(known, _)| *known == name) else {
            out.pair(name, "NotUnderstood");
            return Ok(());
        };
        if key == Key::TargetOnly {
            return Err(ParamError::NotAllowed);
        }
        if stage == Stage::Security && key != Key::MaxRecvDataSegmentLength {
            out.pair(name, "Reject");
            return Ok(());
        }
        let bit = 1 << key as u32;
        if self.seen & bit != 0 {
            return Err(ParamError::Repeated);
        }
        self.seen |= bit;
        match self.answer(key, value)? {
            Answer::Number(number) => out.number(name, number),
            Answer::Boolean(yes) => out.boolean(name, yes),
            Answer::Word(word) => out.pair(name, word),
            Answer::Nothing => {}
        }
        Ok(())
    }

    /// Called behind the last pair of a text: answers what depends on more than one key.
    pub fn finish_text(&mut self, out: &mut TextWriter) -> Result<(), ParamError> {
        if let Some(offer) = self.first_burst_offer.take() {
            let agreed = offer.min(self.offers.first_burst_length).min(self.values.max_burst_length);
            out.number("FirstBurstLength", agreed);
            self.values.first_burst_length = agreed;
            self.first_burst_agreed = true;
        }
        if self.values.first_burst_length > self.values.max_burst_length {
            if self.first_burst_agreed {
                return Err(ParamError::BurstOrder);
            }
            // Only the defaults collide: the smaller number is what both sides can keep to.
            self.values.first_burst_length = self.values.max_burst_length;
        }
        Ok(())
    }

    /// What has been agreed so far.
    pub const fn values(&self) -> &Negotiated {
        &self.values
    }

    /// Ends the negotiation.
    pub fn check_complete(&self) -> Result<(), ParamError> {
        let missing = |policy, digest: DigestType| policy == DigestPolicy::Require && !digest.is_on();
        if missing(self.header_digest, self.values.header_digest)
            || missing(self.data_digest, self.values.data_digest)
        {
            return Err(ParamError::DigestRequired);
        }
        Ok(())
    }

    fn answer(&mut self, key: Key, value: &str) -> Result<Answer, ParamError> {
        if self.is_irrelevant(key) {
            return Ok(IRRELEVANT);
        }
        match key {
            Key::MaxRecvDataSegmentLength => {
                self.values.their_max_recv_data_segment_length =
                    parse_number(value, SEGMENT_BYTES).ok_or(ParamError::BadDeclaration)?;
                Ok(Answer::Nothing)
            }
            Key::NodeArchitecture => Ok(Answer::Nothing),
            Key::FirstBurstLength => {
                self.first_burst_offer = parse_number(value, SEGMENT_BYTES);
                Ok(if self.first_burst_offer.is_some() { Answer::Nothing } else { REJECT })
            }
            _ => Ok(self.result(key, value).unwrap_or(REJECT)),
        }
    }

    /// Applies the key's result function; nothing when the offer is not admissible.
    fn result(&mut self, key: Key, value: &str) -> Option<Answer> {
        let offers = &self.offers;
        let values = &mut self.values;
        Some(match key {
            Key::HeaderDigest => digest(self.header_digest, value, &mut values.header_digest)?,
            Key::DataDigest => digest(self.data_digest, value, &mut values.data_digest)?,
            Key::MaxConnections => least(value, COUNT, offers.max_connections, &mut values.max_connections)?,
            Key::MaxOutstandingR2t => {
                least(value, COUNT, offers.max_outstanding_r2t, &mut values.max_outstanding_r2t)?
            }
            Key::DefaultTime2Retain => {
                least(value, SECONDS, offers.default_time2retain_s, &mut values.default_time2retain_s)?
            }
            Key::DefaultTime2Wait => {
                values.default_time2wait_s = parse_u16(value, SECONDS)?.max(offers.default_time2wait_s);
                Answer::Number(values.default_time2wait_s.into())
            }
            Key::ProtocolLevel => least(value, LEVELS, PROTOCOL_LEVEL, &mut values.protocol_level)?,
            Key::ErrorRecoveryLevel => parse_number(value, 0..=2).map(|_| Answer::Number(0))?,
            Key::InitialR2t => either(value, offers.initial_r2t, &mut values.initial_r2t)?,
            Key::DataPduInOrder => either(value, true, &mut values.data_pdu_in_order)?,
            Key::DataSequenceInOrder => either(value, true, &mut values.data_sequence_in_order)?,
            Key::ImmediateData => {
                values.immediate_data = parse_boolean(value)? && offers.immediate_data;
                Answer::Boolean(values.immediate_data)
            }
            Key::MaxBurstLength => {
                values.max_burst_length = parse_number(value, SEGMENT_BYTES)?.min(offers.max_burst_length);
                Answer::Number(values.max_burst_length)
            }
            Key::TaskReporting => {
                parse_list(value).find(|offer| *offer == "RFC3720").map(|_| Answer::Word("RFC3720"))?
            }
            // Section 13.25: obsolete, and never NotUnderstood. `No` is what an initiator that offers them expects.
            Key::IfMarker | Key::OfMarker => parse_boolean(value).map(|_| Answer::Boolean(false))?,
            _ => return None,
        })
    }

    fn is_irrelevant(&self, key: Key) -> bool {
        let session_wide = matches!(
            key,
            Key::MaxConnections
                | Key::InitialR2t
                | Key::ImmediateData
                | Key::MaxBurstLength
                | Key::FirstBurstLength
                | Key::MaxOutstandingR2t
                | Key::DataPduInOrder
                | Key::DataSequenceInOrder
        );
        let leading_only = session_wide
            || matches!(
                key,
                Key::DefaultTime2Wait
                    | Key::DefaultTime2Retain
                    | Key::ErrorRecoveryLevel
                    | Key::ProtocolLevel
                    | Key::TaskReporting
            );
        (session_wide && self.session_type == SessionType::Discovery) || (leading_only && !self.leading)
    }
}

fn parse_u16(value: &str, range: RangeInclusive<u32>) -> Option<u16> {
    parse_number(value, range).and_then(|number| u16::try_from(number).ok())
}

/// Result function minimum.
fn least(value: &str, range: RangeInclusive<u32>, ours: u16, agreed: &mut u16) -> Option<Answer> {
    *agreed = parse_u16(value, range)?.min(ours);
    Some(Answer::Number((*agreed).into()))
}

/// Result function OR.
fn either(value: &str, ours: bool, agreed: &mut bool) -> Option<Answer> {
    *agreed = parse_boolean(value)? || ours;
    Some(Answer::Boolean(*agreed))
}

/// The first digest in the initiator's order that the policy accepts.
fn digest(policy: DigestPolicy, value: &str, agreed: &mut DigestType) -> Option<Answer> {
    let preferred = policy == DigestPolicy::Prefer && parse_list(value).any(|offer| offer == "CRC32C");
    for offer in parse_list(value) {
        match offer {
            "None" if preferred => {}
            "CRC32C" if policy != DigestPolicy::Refuse => {
                *agreed = DigestType::Crc32c;
                return Some(Answer::Word("CRC32C"));
            }
            "None" if policy != DigestPolicy::Require => {
                *agreed = DigestType::None;
                return Some(Answer::Word("None"));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
