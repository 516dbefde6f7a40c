//! Single PDUs.

use nvme_spec::Sqe;
use nvme_spec::tcp::{COMMON_HEADER_BYTES, CommonHeader, IcReq, IcResp};
use zerocopy::FromBytes;

use super::input::Input;
use crate::connection::{HostConfig, Negotiated, TargetConfig, accept, answer};
use crate::error::Violation;
use crate::frame::{Rules, check};
use crate::host::{HostEvent, HostQueue};
use crate::limits::TERM_REQ_BYTES_MAX;
use crate::peek::{CONNECT_BYTES_MAX, Peek, first_capsule};
use crate::receive::Receive;
use crate::target::{Event, QueueParams, TargetQueue};
use crate::testing::wire::{Pdu, Wire};
use crate::testing::{Chunks, TestAdmission};

pub(super) fn negotiated(choice: u8) -> Negotiated {
    Negotiated {
        header_digest: choice & 1 != 0,
        data_digest: choice & 2 != 0,
        send_alignment_bytes: [4, 8, 64, 128][usize::from(choice >> 2 & 3)],
        receive_alignment_bytes: [4, 12, 32, 128][usize::from(choice >> 4 & 3)],
        r2ts_max: u32::from(choice >> 6) + 1,
        h2c_data_bytes_max: 4096,
    }
}

/// Frames, negotiation and the look at the first capsule.
pub fn pdu(data: &[u8]) {
    let mut input = Input::new(data);
    let (choice, side) = (input.u8(), input.u8());
    let negotiated = negotiated(choice);
    let rules = match side & 3 {
        0 => Rules::before_initialization(true),
        1 => Rules::before_initialization(false),
        2 => Rules::of(&negotiated, true),
        _ => Rules::of(&negotiated, false),
    };
    let bytes = input.rest();
    frame(bytes, &rules);
    cuts(bytes, rules, usize::from(side >> 2) + 1);
    peek(bytes, &negotiated);
    if side & 2 == 0 {
        fresh_target(bytes, usize::from(side >> 2) + 1);
        fresh_host(bytes, usize::from(side >> 2) + 1);
    }
    if let Ok((request, _)) = IcReq::ref_from_prefix(bytes)
        && let Ok((agreed, response)) = answer(request, &TargetConfig::default())
    {
        assert!(agreed.send_alignment_bytes <= 128 && agreed.r2ts_max > 0);
        let host = HostConfig { header_digest: true, data_digest: true, ..HostConfig::default() };
        assert!(accept(&response, &host).is_ok());
    }
    if let Ok((response, _)) = IcResp::ref_from_prefix(bytes)
        && let Ok(agreed) = accept(response, &HostConfig::default())
    {
        assert!(!agreed.header_digest && agreed.send_alignment_bytes.is_multiple_of(4));
    }
}

/// A controller's end that nobody spoke to yet: it answers, or says what is wrong and ends.
fn fresh_target(bytes: &[u8], step: usize) {
    let mut queue = TargetQueue::<Chunks>::new(TargetConfig::default());
    let mut admission = TestAdmission::default();
    let outcome = bytes.chunks(step).try_for_each(|piece| match queue.handle_bytes(piece, &mut admission) {
        Ok(consumed) if consumed == piece.len() => Ok(()),
        Ok(_) => panic!("there is memory"),
        Err(violation) => Err(violation),
    });
    let sent = super::target::drain(&mut queue);
    let mut closed = false;
    while let Some(event) = queue.next_event() {
        closed |= matches!(event, Event::Close(_));
    }
    assert!(closed || outcome.is_ok());
    assert!(outcome.is_err() || closed || sent.is_empty() || sent.starts_with(&[1, 0, 128]));
    if let Err(violation) = outcome {
        assert!(violation.report().is_none() || !sent.is_empty());
    }
}

/// The same of a host's end; it has sent its ICReq.
fn fresh_host(bytes: &[u8], step: usize) {
    let mut queue = HostQueue::<Chunks>::new(HostConfig::default());
    queue.tx_advance(size_of::<IcReq>());
    let outcome = bytes.chunks(step).try_for_each(|piece| queue.handle_bytes(piece));
    assert_eq!(queue.tx_queued_bytes() > 0, outcome.is_err_and(|violation| violation.report().is_some()));
    queue.tx_advance(queue.tx_queued_bytes());
    let mut closed = false;
    while let Some(event) = queue.next_event() {
        closed |= matches!(event, HostEvent::Close(_));
    }
    assert!(closed || outcome.is_ok());
    assert!(!queue.can_submit() || queue.negotiated().is_some());
}

/// What a frame says adds up to the length of the PDU.
fn frame(bytes: &[u8], rules: &Rules) {
    let Ok((ch, _)) = CommonHeader::ref_from_prefix(bytes) else { return };
    let plen = ch.plen.get() as usize;
    match check(ch, rules) {
        Ok(frame) if frame.pdu_type.0 < 4 => {
            assert!(plen >= frame.header_bytes && plen <= TERM_REQ_BYTES_MAX)
        }
        Ok(frame) => {
            let digests = usize::from(frame.header_digest) + usize::from(frame.data_digest);
            let parts = frame.header_bytes + frame.padding_bytes + frame.data_bytes + 4 * digests;
            assert_eq!(parts, plen);
            assert_eq!(frame.header_bytes, usize::from(ch.hlen));
            assert!(frame.data_bytes > 0 || (frame.padding_bytes == 0 && !frame.data_digest));
        }
        Err(violation) => assert!(violation.report().is_some() || violation == Violation::TermReqLength),
    }
}

/// A header in pieces is the same header.
fn cuts(bytes: &[u8], rules: Rules, step: usize) {
    let mut whole = Receive::new(rules);
    let mut input = bytes;
    let expected = whole.collect_header(&mut input);
    let mut pieces = Receive::new(rules);
    let mut outcome = Ok(false);
    for mut piece in bytes.chunks(step) {
        outcome = pieces.collect_header(&mut piece);
        if outcome != Ok(false) {
            break;
        }
    }
    assert_eq!(outcome, expected);
    assert_eq!(pieces.header_so_far(), whole.header_so_far());
    assert!(bytes.starts_with(whole.header_so_far()));
}

/// More bytes never unsay an answer, and there is one before the bytes are too many.
fn peek(bytes: &[u8], negotiated: &Negotiated) {
    let mut answer = Peek::NeedMore;
    for length in [0, COMMON_HEADER_BYTES, 72, 76, 80, 128, 500, 1100, 1200, CONNECT_BYTES_MAX, bytes.len()] {
        let now = first_capsule(&bytes[..length.min(bytes.len())], negotiated);
        let longer = length >= bytes.len();
        assert!(answer == Peek::NeedMore || now == answer || !longer && length < COMMON_HEADER_BYTES);
        if length.min(bytes.len()) >= CONNECT_BYTES_MAX {
            assert!(now != Peek::NeedMore);
        }
        answer = now;
        if longer {
            break;
        }
    }
}

/// A command with any entry and any data in its capsule is given out once, with its data or a fault, and answered once.
pub fn capsule(data: &[u8]) {
    let mut input = Input::new(data);
    let (choice, cut) = (input.u8(), usize::from(input.u8()) + 1);
    let mut entry = [0; size_of::<Sqe>()];
    let given = input.take(entry.len());
    entry[..given.len()].copy_from_slice(given);
    let sqe = Sqe::read_from_bytes(&entry).expect("64 bytes");
    let capsule = input.take(8192);
    let negotiated = negotiated(choice);
    let wire = |alignment_bytes: u8| Wire {
        header_digest: negotiated.header_digest,
        data_digest: negotiated.data_digest,
        alignment_bytes: usize::from(alignment_bytes),
    };
    let mut queue = TargetQueue::resume(TargetConfig::default(), negotiated);
    let params = QueueParams { entries: 2, in_capsule_bytes: 0, sq_flow_control: choice & 0x80 != 0 };
    queue.connected(params);
    let mut admission = TestAdmission::default();
    for piece in wire(negotiated.receive_alignment_bytes).capsule(&sqe, capsule).chunks(cut) {
        assert_eq!(queue.handle_bytes(piece, &mut admission), Ok(piece.len()));
    }
    let Some(event) = queue.next_event() else {
        // Its data is still at the host.
        let sgl_bytes = sqe.dptr.length_bytes.get();
        assert!(capsule.is_empty() && sgl_bytes > 0 && sqe.opcode & 1 != 0);
        let sent = wire(negotiated.send_alignment_bytes).parse_all(&super::target::drain(&mut queue));
        assert!(matches!(sent[0], Pdu::R2t { r2to: 0, r2tl, .. } if r2tl <= sgl_bytes));
        return;
    };
    let Event::Command(command) = event else { panic!("{event:?}") };
    assert_eq!(command.sqe, sqe);
    assert!(command.fault.is_none() || command.data.is_none());
    if let Some(data) = &command.data {
        assert!(capsule.starts_with(data.bytes()) && command.sgl_bytes as usize == capsule.len());
    }
    assert!(queue.complete(command.id, nvme_spec::Cqe::default()));
    assert!(queue.next_event().is_none() && queue.command_count() == 0);
    let sent = wire(negotiated.send_alignment_bytes).parse_all(&super::target::drain(&mut queue));
    assert!(matches!(&sent[..], [Pdu::CapsuleResp(cqe)] if cqe.cid == sqe.cid));
}
