//! A scripted target.

use std::io::IoSlice;

use super::*;
use crate::iscsi::outbox::VECTORS;
use crate::iscsi::wire::{CAPACITY_BYTES, HEADER_BYTES};

/// Everything that waits: header and data of each PDU.
fn sent(session: &mut Session) -> Vec<(Header, Vec<u8>)> {
    let mut stream = Vec::new();
    while !session.outbox.is_empty() {
        let mut vectors = [IoSlice::new(&[]); VECTORS];
        let count =
            session.outbox.chunks(|slot| &session.slots[slot as usize].data, &session.keys, &mut vectors);
        let before = stream.len();
        stream.extend(vectors[..count].iter().flat_map(|chunk| chunk.to_vec()));
        let bytes = stream.len() - before;
        session.advance(bytes);
    }
    let mut pdus = Vec::new();
    while let Some(bytes) = stream.first_chunk::<HEADER_BYTES>() {
        let header = Header(*bytes);
        let end = HEADER_BYTES + header.data_bytes();
        pdus.push((header, stream[HEADER_BYTES..end].to_vec()));
        stream.drain(..end.next_multiple_of(4));
    }
    pdus
}

fn answer(opcode: u8, flags: u8, tag: u32) -> Header {
    let mut header = Header::new(opcode, flags, tag);
    header.set_word(32, 1000);
    header
}

/// Takes what is over; the own command of the session goes on by itself.
fn take(session: &mut Session) -> Vec<(u32, Vec<u8>, Option<Failure>)> {
    let over = std::mem::take(&mut session.over);
    over.into_iter().filter_map(|slot| session.take(slot).expect("a good answer")).collect()
}

fn live() -> Session {
    let mut session = Session::new("iqn.a", "iqn.b", 3, [0; 6], 4);
    let login = sent(&mut session);
    assert_eq!(login[0].0.opcode(), LOGIN_REQUEST);
    assert!(login[0].1.starts_with(b"InitiatorName=iqn.a\0TargetName=iqn.b\0"));
    let keys = b"MaxRecvDataSegmentLength=1024\0FirstBurstLength=512\0ImmediateData=Yes\0";
    session.handle(&answer(LOGIN_RESPONSE, 0x87, 0), keys).expect("a good login");
    for attention in [true, false] {
        let ready = sent(&mut session);
        assert_eq!((ready[0].0.opcode(), ready[0].0.0[9]), (SCSI_COMMAND, 3));
        let mut response = answer(SCSI_RESPONSE, FINAL, ready[0].0.tag());
        response.0[3] = if attention { 2 } else { 0 };
        session.handle(&response, &[]).expect("a good response");
        assert!(take(&mut session).is_empty());
    }
    let ask = sent(&mut session);
    let mut data = vec![0; CAPACITY_BYTES as usize];
    (data[7], data[10]) = (99, 2);
    session.handle(&answer(DATA_IN, FINAL | STATUS, ask[0].0.tag()), &data).expect("a good answer");
    assert!(take(&mut session).is_empty());
    assert_eq!(session.geometry, Some(Geometry::unlimited(512, 100)));
    assert_eq!(session.standing, Standing::Live);
    session
}

fn request(kind: Kind) -> Request {
    Request { tag: 77, kind, lba: 5, length_blocks: 6 }
}

#[test]
fn a_read_is_filled_in_order_and_given_back() {
    let mut session = live();
    session.submit(1, request(Kind::Read), vec![0; 3072]);
    let command = sent(&mut session).remove(0).0;
    assert_eq!((command.0[1], command.word(20), command.0[32], command.0[41]), (0xc1, 3072, 0x88, 5));
    let mut first = answer(DATA_IN, 0, 1);
    session.handle(&first, &[1; 1024]).expect("in order");
    first.set_word(40, 1024);
    session.handle(&first, &[2; 1024]).expect("in order");
    let mut last = answer(DATA_IN, FINAL | STATUS, 1);
    last.set_word(40, 2048);
    session.handle(&last, &[3; 1024]).expect("in order");
    let over = take(&mut session);
    assert_eq!((over[0].0, over[0].2, over[0].1[1023], over[0].1[3071]), (77, None, 1, 3));
    // It is over: nothing more may come.
    assert!(session.handle(&last, &[3; 1024]).is_err());
}

#[test]
fn a_write_goes_out_as_far_as_it_may_and_the_rest_when_asked() {
    let mut session = live();
    session.submit(0, request(Kind::Write), (0..3072).map(|at| (at / 512) as u8).collect());
    let command = sent(&mut session).remove(0);
    assert_eq!((command.0.0[1], command.1), (0xa1, vec![0; 512]));
    let mut r2t = answer(R2T, FINAL, 0);
    (r2t.0[20], r2t.0[23]) = (9, 9);
    r2t.set_word(40, 512);
    r2t.set_word(44, 2560);
    session.handle(&r2t, &[]).expect("inside of the data");
    // The response overtakes the data: the buffer stays until that has left.
    session.handle(&answer(SCSI_RESPONSE, FINAL, 0), &[]).expect("a good response");
    assert!(take(&mut session).is_empty());
    let data = sent(&mut session);
    let shape: Vec<_> = data.iter().map(|(h, d)| (h.0[1], h.word(36), h.word(40), d.len(), d[0])).collect();
    assert_eq!(shape, [(0, 0, 512, 1024, 1), (0, 1, 1536, 1024, 3), (FINAL, 2, 2560, 512, 5)]);
    assert!(data.iter().all(|(header, _)| header.word(20) == 0x0900_0009));
    assert_eq!(take(&mut session)[0].0, 77);
}

#[test]
fn lies_end_the_session() {
    let cases: [fn(&mut Header); 3] = [
        |header| header.set_word(16, 2),
        |header| header.set_word(40, 512),
        |header| header.set_word(16, 4000),
    ];
    for change in cases {
        let mut session = live();
        session.submit(1, request(Kind::Read), vec![0; 3072]);
        sent(&mut session);
        let mut data = answer(DATA_IN, 0, 1);
        change(&mut data);
        assert_eq!(session.handle(&data, &[0; 1024]), Err(SessionEnd::Violation(DATA_IN)));
    }
    let mut session = live();
    session.submit(1, request(Kind::Write), vec![0; 3072]);
    let mut r2t = answer(R2T, FINAL, 1);
    r2t.set_word(40, 1);
    r2t.set_word(44, 3072);
    assert_eq!(session.handle(&r2t, &[]), Err(SessionEnd::Violation(R2T)));
}

#[test]
fn failures_carry_their_sense_and_lost_commands_their_buffers() {
    let mut session = live();
    session.submit(1, request(Kind::Read), vec![0; 3072]);
    session.submit(2, request(Kind::Read), vec![0; 3072]);
    let mut response = answer(SCSI_RESPONSE, FINAL, 1);
    response.0[3] = 2;
    let mut sense = [0; 20];
    (sense[2], sense[4], sense[14]) = (0x70, 5, 0x21);
    session.handle(&response, &sense).expect("a good response");
    assert_eq!(take(&mut session)[0].2, Some(Failure::Scsi(2, Some((5, 0x21, 0)))));
    let lost: Vec<_> = session.take_lost().map(|(tag, data)| (tag, data.len())).collect();
    assert_eq!(lost, [(77, 3072)]);
}
