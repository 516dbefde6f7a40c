//! Text requests in full-feature phase (RFC 7143 sections 11.10 and 11.11): SendTargets and declarations, with
//! continuation both ways. One exchange per connection at a time.

use super::Session;
use super::event::{ConnectionIndex, RequestId, SendTargets, TextQuery};
use super::host::{Host, Payload};
use super::limits::{TEXT_REQUEST_BYTES_MAX, TEXT_RESPONSE_BYTES_MAX};
use super::request::{Body, Request};
use super::{Queued, receive::Receive};
use crate::discovery::TargetRecords;
use crate::pdu::{
    DATA_SEGMENT_BYTES_MAX, FLAG_CONTINUE, FLAG_FINAL, RESERVED_TAG, RejectReason, TextRequest, TextResponse,
    U24,
};
use crate::text::{TextPairs, TextWriter, parse_number};
use zerocopy::transmute;

/// Smallest MaxRecvDataSegmentLength that may be declared.
const SEGMENT_BYTES_MIN: u32 = 512;

/// A text exchange between its first request and its last response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextExchange {
    itt: u32,
    /// The tag that the next request must carry.
    ttt: u32,
    /// Request text so far, while it is continued.
    question: Vec<u8>,
    /// Response text, and how much of it was sent.
    answer: Vec<u8>,
    sent_bytes: usize,
    /// The initiator has said all it wants to say.
    is_final: bool,
    /// What the layer above is being asked.
    asking: Option<SendTargets>,
}

/// What the keys of a request mean.
struct Parsed {
    answer: TextWriter,
    send_targets: Option<SendTargets>,
    segment_bytes_max: Option<u32>,
}

impl<P: Payload> Session<P> {
    /// A text request is complete.
    pub(super) fn on_text<H: Host<Payload = P>>(&mut self, index: usize, host: &mut H) {
        let Receive { bhs, scratch, .. } = &mut self.open(index).rx;
        let header = *TextRequest::view(bhs);
        let body = Body::Text {
            is_final: header.is_final(),
            is_continued: header.is_continued(),
            ttt: header.ttt.get(),
            data: std::mem::take(scratch),
        };
        self.accept_control(index, header.itt.get(), header.cmd_sn.get(), body, host);
    }

    /// Its turn has come.
    pub(super) fn run_text(&mut self, id: RequestId) {
        let request = self.requests.get_mut(id).expect("the caller looked");
        let (index, itt, bhs) = (usize::from(request.connection), request.itt, request.bhs);
        let Body::Text { is_final, is_continued, ttt, data } = &mut request.body else {
            unreachable!("the caller looked at the body")
        };
        let (is_final, is_continued, ttt, data) = (*is_final, *is_continued, *ttt, std::mem::take(data));
        match self.take_text(index, itt, is_final, is_continued, ttt, &data) {
            Err(reason) => {
                if let Some(connection) = self.connections[index].as_mut() {
                    connection.text = None;
                }
                if self.end_request(id).is_some() {
                    self.send_reject_of(index, reason, &bhs);
                }
            }
            // Nothing to say yet, or more of what was said before.
            Ok(false) => self.answer_text(id),
            Ok(true) => self.events.push_back(Queued::Request(id)),
        }
    }

    /// Adds a request to its exchange. True when the layer above must be asked before the answer.
    fn take_text(
        &mut self,
        index: usize,
        itt: u32,
        is_final: bool,
        is_continued: bool,
        ttt: u32,
        data: &[u8],
    ) -> Result<bool, RejectReason> {
        let discovery = self.rules.discovery;
        let connection = self.open(index);
        //= RFC 7143 section 11.10.2: C with F is a contradiction
        if is_final && is_continued {
            return Err(RejectReason::PROTOCOL_ERROR);
        }
        if connection.text.as_ref().is_some_and(|text| text.asking.is_some()) {
            return Err(RejectReason::PROTOCOL_ERROR);
        }
        if ttt == RESERVED_TAG {
            // A new exchange; one that was not finished is forgotten (section 11.10.4).
            connection.text = Some(TextExchange::new(itt));
        }
        let text = connection
            .text
            .as_mut()
            .filter(|text| text.itt == itt && (ttt == RESERVED_TAG || text.ttt == ttt));
        let text = text.ok_or(RejectReason::INVALID_PDU_FIELD)?;
        if text.sent_bytes < text.answer.len() {
            // The rest of the answer is fetched: with empty requests.
            text.is_final |= is_final;
            return if data.is_empty() && !is_continued {
                Ok(false)
            } else {
                Err(RejectReason::PROTOCOL_ERROR)
            };
        }
        if text.question.len() + data.len() > TEXT_REQUEST_BYTES_MAX {
            return Err(RejectReason::LONG_OPERATION_REJECT);
        }
        text.question.extend_from_slice(data);
        text.answer.clear();
        text.sent_bytes = 0;
        if is_continued {
            return Ok(false);
        }
        text.is_final = is_final;
        let parsed = parse(&std::mem::take(&mut text.question), discovery)?;
        text.answer = parsed.answer.into_bytes();
        let asks = parsed.send_targets.is_some();
        text.asking = parsed.send_targets;
        if let Some(bytes) = parsed.segment_bytes_max {
            connection.segment_bytes_max = bytes as usize;
        }
        Ok(asks)
    }

    /// The question for the layer above, unless the exchange was given up.
    pub(super) fn text_event(&self, id: RequestId, request: &Request) -> Option<TextQuery> {
        let text = self.connections[usize::from(request.connection)].as_ref()?.text.as_ref()?;
        let targets = text.asking.clone()?;
        Some(TextQuery { id, connection: ConnectionIndex(request.connection), targets })
    }

    /// Answers a [`TextQuery`]. False when it is stale.
    pub fn complete_text(&mut self, id: RequestId, records: &TargetRecords) -> bool {
        let Some(request) = self.requests.get(id) else { return false };
        let index = usize::from(request.connection);
        let Some(text) = self.connections[index].as_mut().and_then(|connection| connection.text.as_mut())
        else {
            return false;
        };
        if text.asking.take().is_none() {
            return false;
        }
        text.answer.extend_from_slice(records.as_bytes());
        if text.answer.len() > TEXT_RESPONSE_BYTES_MAX {
            text.answer.truncate(end_of_last_record(&text.answer[..TEXT_RESPONSE_BYTES_MAX]));
        }
        self.answer_text(id);
        true
    }

    /// Sends the next piece of the answer.
    fn answer_text(&mut self, id: RequestId) {
        let tag = self.new_tag(None);
        let Some(request) = self.end_request(id) else { return };
        let index = usize::from(request.connection);
        let connection = self.open(index);
        let Some(mut text) = connection.text.take() else { return };
        let end = text.answer.len().min(text.sent_bytes + connection.segment_bytes_max);
        let more = end < text.answer.len();
        let done = !more && text.is_final && text.question.is_empty();
        let flags = match (more, done) {
            (true, _) => FLAG_CONTINUE,
            (false, true) => FLAG_FINAL,
            (false, false) => 0,
        };
        text.ttt = if done { RESERVED_TAG } else { tag };
        let header = TextResponse {
            flags,
            ttt: text.ttt.into(),
            data_segment_length: U24::new(end - text.sent_bytes),
            ..TextResponse::new(request.itt)
        };
        self.send_status(index, transmute!(header), &text.answer[text.sent_bytes..end]);
        text.sent_bytes = end;
        if !done {
            self.open(index).text = Some(text);
        }
    }
}

impl TextExchange {
    fn new(itt: u32) -> Self {
        Self {
            itt,
            ttt: RESERVED_TAG,
            question: Vec::new(),
            answer: Vec::new(),
            sent_bytes: 0,
            is_final: false,
            asking: None,
        }
    }
}

/// Reads the keys of a whole text.
fn parse(question: &[u8], discovery: bool) -> Result<Parsed, RejectReason> {
    let mut parsed = Parsed { answer: TextWriter::new(), send_targets: None, segment_bytes_max: None };
    for pair in TextPairs::new(question) {
        let (key, value) = pair.map_err(|_| RejectReason::PROTOCOL_ERROR)?;
        match key {
            "SendTargets" if parsed.send_targets.is_some() => return Err(RejectReason::PROTOCOL_ERROR),
            "SendTargets" => match (value, discovery) {
                //= RFC 7143 appendix C: All only in a discovery session, the empty value only in a normal one
                ("All", false) | ("", true) => parsed.answer.pair(key, "Reject"),
                ("All", true) => parsed.send_targets = Some(SendTargets::All),
                ("", false) => parsed.send_targets = Some(SendTargets::Current),
                (name, _) => parsed.send_targets = Some(SendTargets::Named(name.to_owned())),
            },
            "MaxRecvDataSegmentLength" => {
                let bytes = parse_number(value, SEGMENT_BYTES_MIN..=DATA_SEGMENT_BYTES_MAX as u32);
                match (bytes, parsed.segment_bytes_max) {
                    (Some(bytes), None) => parsed.segment_bytes_max = Some(bytes),
                    (None, None) => parsed.answer.pair(key, "Reject"),
                    (_, Some(_)) => return Err(RejectReason::PROTOCOL_ERROR),
                }
            }
            // A declaration, of interest to nobody here.
            "InitiatorAlias" => {}
            key if LOGIN_KEYS.contains(&key) => parsed.answer.pair(key, "Reject"),
            key => parsed.answer.pair(key, "NotUnderstood"),
        }
        if parsed.answer.len() > TEXT_RESPONSE_BYTES_MAX {
            return Err(RejectReason::LONG_OPERATION_REJECT);
        }
    }
    Ok(parsed)
}

/// Where the last whole pair of `text` ends.
fn end_of_last_record(text: &[u8]) -> usize {
    text.iter().rposition(|&byte| byte == 0).map_or(0, |nul| nul + 1)
}

/// Keys that may be negotiated in login only.
const LOGIN_KEYS: [&str; 24] = [
    "AuthMethod",
    "HeaderDigest",
    "DataDigest",
    "MaxConnections",
    "TargetName",
    "InitiatorName",
    "TargetAlias",
    "TargetAddress",
    "TargetPortalGroupTag",
    "InitialR2T",
    "ImmediateData",
    "MaxBurstLength",
    "FirstBurstLength",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "DataSequenceInOrder",
    "ErrorRecoveryLevel",
    "SessionType",
    "IFMarker",
    "OFMarker",
    "TaskReporting",
    "iSCSIProtocolLevel",
];
