//! The same bytes in any pieces give the same events and the same answers.

use super::bench::*;
use crate::params::Negotiated;
use crate::pdu::*;
use crate::session::testing::TestHost;
use crate::session::*;

/// A stream with every kind of PDU, every kind of padding, answers to R2Ts, and things that are ignored or rejected.
fn script(bench: &mut Bench) -> Vec<u8> {
    let (header_digest, data_digest) = bench.digests();
    let data = pattern(3003);
    let mut pdus = vec![
        bench.write(1, 37, &pattern(37)),
        bench.command(2, W, 203, TestHost::write_cdb(203), &pattern(101)),
        data_out(2, RESERVED_TAG, 0, 101, &pattern(203)[101..150], false),
        immediate(request(Opcode::NOP_OUT, F, 50, RESERVED_TAG, bench.cmd_sn, b"pings")),
        data_out(2, RESERVED_TAG, 1, 150, &pattern(203)[150..], true),
        // Tags are handed out in order, so that of the only R2T is known.
        bench.write(3, 3003, &[]),
        data_out(3, 0x1000 | 2, 0, 0, &data[..2222], false),
        bench.read(4, 1000),
        data_out(3, 0x1000 | 2, 1, 2222, &data[2222..], true),
        data_out(77, RESERVED_TAG, 0, 0, b"late", true),
        request(Opcode::SNACK_REQUEST, F, 1, 2, 0, &[]),
        request(Opcode(0x1d), F, 60, 0, 0, b"vendor"),
        request(Opcode::NOP_OUT, F, 51, RESERVED_TAG, bench.next_cmd_sn(), b"x"),
        immediate(request(Opcode::TEXT_REQUEST, F, 52, RESERVED_TAG, bench.cmd_sn, b"X-a=1\0SendTargets=\0")),
        management(TmfFunction::ABORT_TASK, 53, 999, bench.cmd_sn, 0),
        command(9, FIRST_CMD_SN.wrapping_sub(1), R | F, 0, [0; 16], &[]),
    ];
    let mut long = bench.command(5, R | W | F, 4, [0x7f; 16], &pattern(3));
    long.ahs = vec![0, 17, 1, 0];
    long.ahs.extend(16..32u8);
    pdus.push(long);
    // Of another logical unit: the commands above are not given out yet.
    let mut reset = management(TmfFunction::LOGICAL_UNIT_RESET, 54, RESERVED_TAG, bench.cmd_sn, 0);
    reset.bhs[9] ^= 2;
    pdus.push(reset);
    pdus.iter().flat_map(|pdu| pdu.wire(header_digest, data_digest)).collect()
}

/// What a run gave.
#[derive(PartialEq)]
struct Outcome {
    events: String,
    sent: Vec<u8>,
}

fn run(values: &Negotiated, pieces: &mut dyn FnMut(&mut Bench, &[u8])) -> Outcome {
    let mut bench = Bench::with(values.clone(), SessionConfig::default());
    let bytes = script(&mut bench);
    pieces(&mut bench, &bytes);
    let events = bench.events();
    let described = format!("{events:?}");
    assert_eq!(events.len(), 7, "five commands, a question, a reset: {described}");
    for event in events {
        if let Event::Command(command) = event {
            bench.good(command.task);
        }
    }
    Outcome { events: described, sent: bench.take_bytes(C0) }
}

fn each_kind(check: impl Fn(&Negotiated, &Outcome)) {
    for values in [negotiated(), with_digests(negotiated())] {
        let whole = run(&values, &mut |bench, bytes| bench.feed(C0, bytes).expect("sound"));
        check(&values, &whole);
    }
}

#[test]
fn every_cut_into_two() {
    each_kind(|values, whole| {
        let length = script(&mut Bench::with(values.clone(), SessionConfig::default())).len();
        for cut in 0..=length {
            let outcome = run(values, &mut |bench, bytes| {
                bench.feed(C0, &bytes[..cut]).expect("sound");
                bench.feed(C0, &bytes[cut..]).expect("sound");
            });
            assert!(outcome == *whole, "cut at {cut}: {} {}", outcome.events, whole.events);
        }
    });
}

#[test]
fn pieces_of_every_small_size() {
    each_kind(|values, whole| {
        for size in 1..=64 {
            let outcome = run(values, &mut |bench, bytes| {
                bytes.chunks(size).for_each(|piece| bench.feed(C0, piece).expect("sound"));
            });
            assert!(outcome == *whole, "pieces of {size}");
        }
    });
}

#[test]
fn data_received_straight_into_the_buffers() {
    each_kind(|values, whole| {
        for size in [1, 3, 48, 100, 1000, 100_000] {
            let outcome = run(values, &mut |bench, bytes| receive_in_place(bench, bytes, size));
            assert!(outcome == *whole, "pieces of {size}");
        }
    });
}

/// A driver that receives in place whenever it may.
fn receive_in_place(bench: &mut Bench, mut bytes: &[u8], size: usize) {
    while !bytes.is_empty() {
        let mut piece = &bytes[..size.min(bytes.len())];
        bytes = &bytes[piece.len()..];
        if let Some(destination) = bench.session.payload_destination(C0) {
            let direct = piece.len().min(destination.len());
            destination[..direct].copy_from_slice(&piece[..direct]);
            bench.session.payload_received(C0, 0, direct);
            piece = &piece[direct..];
        }
        bench.feed(C0, piece).expect("sound");
    }
}

#[test]
fn answers_taken_in_pieces_of_every_size() {
    each_kind(|values, whole| {
        for size in 1..=60 {
            let mut bench = Bench::with(values.clone(), SessionConfig::default());
            let bytes = script(&mut bench);
            bench.feed(C0, &bytes).expect("sound");
            for event in bench.events() {
                if let Event::Command(command) = event {
                    bench.good(command.task);
                }
            }
            let mut sent = Vec::new();
            loop {
                let mut slices = [std::io::IoSlice::new(&[]); 3];
                let filled = bench.session.tx_slices(C0, &mut slices);
                let shown = slices[..filled].iter().flat_map(|slice| slice.iter().copied());
                let taken: Vec<u8> = shown.take(size).collect();
                if taken.is_empty() {
                    break;
                }
                bench.session.tx_advance(C0, taken.len());
                sent.extend(taken);
            }
            assert!(sent == whole.sent, "pieces of {size}");
        }
    });
}

#[test]
fn a_disconnect_at_every_byte_leaves_nothing_behind() {
    let length = script(&mut Bench::new()).len();
    for cut in 0..length {
        let mut bench = Bench::new();
        let bytes = script(&mut bench);
        bench.feed(C0, &bytes[..cut]).expect("sound");
        // Some are given out before the connection goes, some are not.
        let given_out = if cut % 2 == 0 { bench.events().len() } else { 0 };
        bench.session.remove_connection(C0);
        let aborted =
            bench.events().iter().filter(|event| matches!(event, Event::TaskAborted { .. })).count();
        assert!(aborted <= given_out);
        bench.assert_idle();
        assert_eq!(bench.session.next_deadline(), None);
        // The session is as good as new for another connection.
        bench.connect(12);
        bench.ok(&immediate(request(Opcode::NOP_OUT, F, 50, RESERVED_TAG, 0, b"")));
        bench.sent();
    }
}
