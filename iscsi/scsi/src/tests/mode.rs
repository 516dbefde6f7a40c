//! Mode pages: what they say, what can be changed, and that a wrong list changes nothing.

use volume::bdev::Op;

use super::*;
use crate::WriteCachePolicy;
use crate::fuzzing::config;

fn sense_6(bench: &mut Bench, control: u8, page: u8) -> Vec<u8> {
    data(&bench.run(1, &[0x1a, 0x08, control << 6 | page, 0, 255, 0], &[]))[4..].to_vec()
}

fn select_6(bench: &mut Bench, page: &[u8]) -> Response {
    let list = [&[0, 0, 0, 0], page].concat();
    bench.run(1, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)
}

#[test]
fn all_pages_are_the_single_ones_and_lengths_add_up() {
    let mut bench = bench();
    let mut joined = Vec::new();
    for page in [1, 8, 10, 28] {
        joined.extend(sense_6(&mut bench, 0, page));
    }
    assert_eq!(sense_6(&mut bench, 0, 0x3f), joined);
    let whole = data(&bench.run(1, &[0x1a, 0, 0x3f, 0xff, 255, 0], &[]));
    assert_eq!((usize::from(whole[0]), whole[2], whole[3]), (whole.len() - 1, 0x10, 8));
    assert_eq!(whole[4..12], [0, 0, 8, 0, 0, 0, 2, 0]);
    let long = data(&bench.run(1, &[0x5a, 0x10, 0x3f, 0xff, 0, 0, 0, 1, 0, 0], &[]));
    assert_eq!(usize::from(u16::from_be_bytes([long[0], long[1]])), long.len() - 2);
    assert_eq!((long[4], long[7]), (1, 16));
    assert_eq!(long[24..], whole[12..]);
    for room in 0..=255 {
        let reply = data(&bench.run(1, &[0x1a, 0, 0x3f, 0, room, 0], &[]));
        assert_eq!(reply, data(&bench.run(1, &[0x1a, 0, 0x3f, 0, 255, 0], &[]))[..reply.len()]);
    }
}

#[test]
fn pages_that_are_not_there_and_saved_values_are_refused() {
    let mut bench = bench();
    refused(&bench.run(1, &[0x1a, 0, 0x05, 0, 255, 0], &[]), INVALID_FIELD);
    refused(&bench.run(1, &[0x1a, 0, 0x0a, 7, 255, 0], &[]), INVALID_FIELD);
    refused(&bench.run(1, &[0x1a, 0, 0x3f, 7, 255, 0], &[]), INVALID_FIELD);
    sense(&bench.run(1, &[0x1a, 0, 0xc8, 0, 255, 0], &[]), 5, 0x39, 0);
}

#[test]
fn the_write_cache_bit_is_the_truth() {
    let mut bench = bench();
    assert_eq!((sense_6(&mut bench, 0, 8)[2], sense_6(&mut bench, 1, 8)[2]), (4, 4));
    let mut page = sense_6(&mut bench, 0, 8);
    page[2] = 0;
    good(&select_6(&mut bench, &page));
    assert_eq!((sense_6(&mut bench, 0, 8)[2], sense_6(&mut bench, 2, 8)[2]), (0, 4));
    // Off means off: every write is on the medium when it is answered.
    good(&bench.run(1, &write_10(0, 1), &[1; 512]));
    assert!(matches!(bench.disk.log.last(), Some(Op::Write { fua: true, .. })));
    bench.unit.reset(None);
    sense(&bench.run(1, &[0; 6], &[]), 6, 0x29, 3);
    assert_eq!(sense_6(&mut bench, 0, 8)[2], 4, "a reset brings the defaults back");

    let mut off = config();
    off.write_cache = WriteCachePolicy::Off;
    let mut bench = Bench::with(off, info(512, 2048), None);
    assert_eq!((sense_6(&mut bench, 0, 8)[2], sense_6(&mut bench, 1, 8)[2]), (0, 0));
    good(&bench.run(1, &write_10(0, 1), &[1; 512]));
    assert!(matches!(bench.disk.log.last(), Some(Op::Write { fua: true, .. })));

    let mut safe = info(512, 2048);
    safe.volatile_write_cache = false;
    let mut bench = Bench::new(safe);
    assert_eq!((sense_6(&mut bench, 0, 8)[2], sense_6(&mut bench, 1, 8)[2]), (0, 0));
    good(&bench.run(1, &write_10(0, 1), &[1; 512]));
    assert!(matches!(bench.disk.log.last(), Some(Op::Write { fua: false, .. })));
}

#[test]
fn software_write_protect_stops_writes_and_nothing_else() {
    let mut bench = bench();
    let mut page = sense_6(&mut bench, 0, 10);
    page[4] |= 0x08;
    good(&select_6(&mut bench, &page));
    sense(&bench.run(2, &[0; 6], &[]), 6, 0x2a, 1);
    assert_eq!(sense_6(&mut bench, 0, 10)[4], 8);
    assert_eq!(data(&bench.run(1, &[0x1a, 0, 10, 0, 255, 0], &[]))[2], 0x90, "WP is set in the header");
    let list = [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let writes: [(&[u8], &[u8]); 6] = [
        (&write_10(0, 1), &[1; 512]),
        (&long(0x8b, 0, 0, 1), &[1; 512]),
        (&long(0x93, 0, 0, 1), &[1; 512]),
        (&long(0x8e, 0, 0, 1), &[1; 512]),
        (&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list),
        (&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &[0; 1024]),
    ];
    for (cdb, payload) in writes {
        sense(&bench.run(1, cdb, payload), 7, 0x27, 2);
    }
    good(&bench.run(1, &read_10(0, 1), &[]));
    good(&bench.run(1, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]));
    page[4] = 0;
    good(&select_6(&mut bench, &page));
    good(&bench.run(1, &write_10(0, 1), &[1; 512]));
}

#[test]
fn descriptor_sense_is_used_when_asked_for() {
    let mut bench = bench();
    let mut page = sense_6(&mut bench, 0, 10);
    page[2] |= 0x04;
    good(&select_6(&mut bench, &page));
    let response = bench.run(1, &read_10(5000, 1), &[]);
    assert_eq!(response.sense, [0x72, 5, 0x21, 0, 0, 0, 0, 0]);
    // REQUEST SENSE has its own bit.
    assert_eq!(data(&bench.run(1, &[3, 0, 0, 0, 255, 0], &[]))[0], 0x70);
    assert_eq!(data(&bench.run(1, &[3, 1, 0, 0, 255, 0], &[]))[0], 0x72);
}

#[test]
fn a_wrong_list_changes_nothing() {
    let mut bench = bench();
    let before = sense_6(&mut bench, 0, 0x3f);
    let mut swp = sense_6(&mut bench, 0, 10);
    swp[4] |= 8;
    let (mut fixed_bit, mut length) = (swp.clone(), swp.clone());
    fixed_bit[3] ^= 0x10;
    length[1] = 9;
    let wrong: [(Vec<u8>, u8, u16); 4] = [
        ([&swp[..], &fixed_bit].concat(), 0x26, 4 + 12 + 3),
        ([&swp[..], &length].concat(), 0x26, 4 + 12 + 1),
        ([&swp[..], &[0x05, 2, 0, 0]].concat(), 0x26, 4 + 12),
        ([&swp[..], &swp[..7]].concat(), 0x1a, 0),
    ];
    for (pages, asc, byte) in wrong {
        let response = select_6(&mut bench, &pages);
        sense(&response, 5, asc, 0);
        if asc == 0x26 {
            assert_eq!(u16::from_be_bytes([response.sense[16], response.sense[17]]), byte, "field pointer");
            assert_eq!(response.sense[15], 0x80);
        }
    }
    assert_eq!(sense_6(&mut bench, 0, 0x3f), before);
    refused(&bench.run(1, &[0x15, 0x11, 0, 0, 4, 0], &[0; 4]), INVALID_FIELD);
    refused(&bench.run(1, &[0x15, 0x00, 0, 0, 4, 0], &[0; 4]), INVALID_FIELD);
    for length in 1..4 {
        sense(&bench.run(1, &[0x15, 0x10, 0, 0, length, 0], &[0; 4]), 5, 0x1a, 0);
    }
    good(&bench.run(1, &[0x15, 0x10, 0, 0, 0, 0], &[]));
}

#[test]
fn the_block_descriptor_may_come_back_unchanged() {
    let mut bench = bench();
    let whole = data(&bench.run(1, &[0x1a, 0, 8, 0, 255, 0], &[]));
    let mut list = whole.clone();
    list[0] = 0;
    let cdb = [0x15, 0x10, 0, 0, list.len() as u8, 0];
    good(&bench.run(1, &cdb, &list));
    list[10] = 9; // another block length
    sense(&bench.run(1, &cdb, &list), 5, 0x26, 0);
    let long = data(&bench.run(1, &[0x5a, 0x10, 8, 0, 0, 0, 0, 1, 0, 0], &[]));
    let mut list = long.clone();
    (list[0], list[1]) = (0, 0);
    good(&bench.run(1, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], &list));
}
