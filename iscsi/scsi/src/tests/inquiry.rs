//! INQUIRY, capacity, lists of LUNs, commands and port groups.

use super::*;
use crate::fuzzing::{LUNS, config};
use crate::{AccessState, PortGroup, no_such_lun};

fn page(bench: &mut Bench, code: u8) -> Vec<u8> {
    let page = data(&bench.run(1, &[0x12, 1, code, 1, 0, 0], &[]));
    assert_eq!(page[1], code);
    assert_eq!(usize::from(u16::from_be_bytes([page[2], page[3]])), page.len() - 4);
    page
}

fn word(page: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

#[test]
fn standard_inquiry_is_an_ascii_disk_of_spc_4() {
    let mut bench = bench();
    let reply = data(&bench.run(1, &[0x12, 0, 0, 1, 4, 0], &[]));
    assert_eq!((reply[0], reply[1], reply[2], reply[3] & 0x0f), (0, 0, 6, 2));
    assert_eq!(usize::from(reply[4]) + 5, reply.len());
    assert_eq!(&reply[8..36], b"VEGA    volume          0001");
    assert_eq!(reply[58..66], [0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0, 0x09, 0x60]);
    refused(&bench.run(1, &[0x12, 0, 1, 1, 0, 0], &[]), INVALID_FIELD);
    refused(&bench.run(1, &[0x12, 2, 0, 1, 0, 0], &[]), INVALID_FIELD);
    refused(&bench.run(1, &[0x12, 1, 0x7f, 1, 0, 0], &[]), INVALID_FIELD);
}

#[test]
fn every_listed_page_is_there_and_the_list_is_sorted() {
    let mut bench = bench();
    let list = page(&mut bench, 0)[4..].to_vec();
    assert!(list.is_sorted_by(|left, right| left < right));
    for code in list {
        page(&mut bench, code);
    }
    assert_eq!(&page(&mut bench, 0x80)[4..], b"0123456789abcdef");
}

#[test]
fn identification_names_the_data_and_the_port() {
    let mut bench = bench();
    let reply = page(&mut bench, 0x83);
    let mut rest = &reply[4..];
    let mut kinds = Vec::new();
    while let [set, kind, _, length, tail @ ..] = rest {
        let (bytes, next) = tail.split_at(usize::from(*length));
        kinds.push((*set, *kind));
        if *kind & 0x0f == 8 {
            assert!(bytes.starts_with(b"iqn.2026-01.io.vega:target,t,0x0001\0") && bytes.len() % 4 == 0);
        }
        if *kind == 3 {
            assert_eq!(bytes[0] >> 4, 3, "a locally assigned name");
        }
        rest = next;
    }
    assert_eq!(kinds, [(1, 3), (2, 1), (0x51, 0x94), (0x51, 0x95), (0x53, 0x98)]);
    // The same data behind another target keeps its name.
    assert_eq!(page(&mut Bench::new(info(4096, 64)), 0x83), reply);
}

#[test]
fn block_limits_are_the_limits() {
    let mut bench = bench();
    let limits = page(&mut bench, 0xb0);
    assert_eq!(limits[3], 0x3c);
    assert_eq!(limits[4..6], [0, 128]);
    assert_eq!((word(&limits, 8), word(&limits, 12)), (16384, 2048));
    assert_eq!((word(&limits, 20), word(&limits, 24), word(&limits, 28)), (1 << 20, 256, 8));
    assert_eq!((word(&limits, 36), word(&limits, 40), word(&limits, 44)), (0, 1 << 15, 256));
    assert_eq!(page(&mut bench, 0xb1)[4..8], [0, 1, 0, 0x40]);
    assert_eq!(page(&mut bench, 0xb2)[4..], [0, 0xe4, 2, 0]);
}

#[test]
fn capacity_is_told_in_both_sizes() {
    let mut bench = bench();
    assert_eq!(data(&bench.run(1, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[])), [0, 0, 7, 255, 0, 0, 2, 0]);
    refused(&bench.run(1, &[0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0], &[]), INVALID_FIELD);
    let reply = data(&bench.run(1, &long(0x9e, 0x10, 0, 32), &[]));
    assert_eq!(reply[..16], [0, 0, 0, 0, 0, 0, 7, 255, 0, 0, 2, 0, 0, 3, 0xc0, 0]);
    for room in 0..33 {
        assert_eq!(data(&bench.run(1, &long(0x9e, 0x10, 0, room), &[])).len(), room.min(32) as usize);
    }
    refused(&bench.run(1, &long(0x9e, 0x11, 0, 32), &[]), INVALID_FIELD);
    // More blocks than 32 bits count.
    let mut large = info(512, 2048);
    large.length_blocks = 1 << 33;
    bench.unit.capacity_changed(large);
    sense(&bench.run(1, &[0; 6], &[]), 6, 0x2a, 9);
    assert_eq!(data(&bench.run(1, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]))[..4], [0xff; 4]);
}

#[test]
fn report_luns_lists_the_target() {
    let mut bench = bench();
    let mut cdb = [0; 12];
    cdb[0] = 0xa0;
    cdb[9] = 255;
    let list = data(&bench.run(1, &cdb, &[]));
    assert_eq!(list[..8], [0, 0, 0, 16, 0, 0, 0, 0]);
    assert_eq!(list[8..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    cdb[2] = 1;
    assert_eq!(data(&bench.run(1, &cdb, &[])), [0; 8]);
    cdb[2] = 9;
    refused(&bench.run(1, &cdb, &[]), INVALID_FIELD);
}

#[test]
fn a_lun_that_is_not_there_says_so() {
    let reply = no_such_lun(&[0x12, 0, 0, 0, 36, 0], &LUNS);
    assert_eq!((data(&reply)[0], data(&reply).len()), (0x7f, 36));
    refused(&no_such_lun(&[0x12, 1, 0, 0, 36, 0], &LUNS), (5, 0x25, 0));
    refused(&no_such_lun(&read_10(0, 1), &LUNS), (5, 0x25, 0));
    assert_eq!(data(&no_such_lun(&[3, 0, 0, 0, 255, 0], &LUNS))[12], 0x25);
    let list = no_such_lun(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &LUNS);
    assert_eq!(data(&list).len(), 24);
    assert_eq!(no_such_lun(&[], &LUNS).status, Status::CheckCondition);
}

fn opcodes(bench: &mut Bench, option: u8, code: u8, action: u16, room: u16) -> Response {
    let ([a, b], [r, s]) = (action.to_be_bytes(), room.to_be_bytes());
    bench.run(1, &[0xa3, 0x0c, option, code, a, b, 0, 0, r, s, 0, 0], &[])
}

#[test]
fn supported_commands_are_listed_and_described_one_by_one() {
    let mut bench = bench();
    for (option, size) in [(0x00, 8), (0x80, 20)] {
        let list = data(&opcodes(&mut bench, option, 0, 0, u16::MAX));
        assert_eq!(word(&list, 0) as usize, list.len() - 4);
        for entry in list[4..].chunks(size) {
            let (code, action) = (entry[0], u16::from_be_bytes([entry[2], entry[3]]));
            let has_actions = entry[5] & 1 != 0;
            assert_eq!(entry[5] & 2 != 0, option == 0x80);
            let (right, wrong) = if has_actions { (2, 1) } else { (1, 2) };
            refused(&opcodes(&mut bench, wrong, code, action, u16::MAX), INVALID_FIELD);
            let one = data(&opcodes(&mut bench, right, code, action, u16::MAX));
            let length = usize::from(u16::from_be_bytes([one[2], one[3]]));
            assert_eq!((one[1], one[4], length), (3, code, one.len() - 4));
            assert_eq!(data(&opcodes(&mut bench, 3, code, action, u16::MAX)), one);
            if has_actions {
                assert_eq!(u16::from(one[5] & 0x1f), action);
            }
            // What is listed is really there.
            let mut cdb = [0; 16];
            (cdb[0], cdb[1]) = (code, action as u8);
            let response = bench.run(1, &cdb, &[]);
            assert!(response.sense.get(12) != Some(&0x20), "{code:#x} is listed and unknown");
        }
    }
    assert_eq!(data(&opcodes(&mut bench, 1, 0xff, 0, 99)), [0, 1, 0, 0]);
    assert_eq!(data(&opcodes(&mut bench, 2, 0x5e, 9, 99)), [0, 1, 0, 0]);
    // DPO and FUA are in the usage data of those that take them.
    assert_eq!(data(&opcodes(&mut bench, 1, 0x89, 0, 99))[5] & 0x18, 0x18);
    for option in 4..8 {
        refused(&opcodes(&mut bench, option, 0, 0, 99), INVALID_FIELD);
    }
    for room in [0, 1, 3, 4, 7, 8, 9] {
        assert_eq!(data(&opcodes(&mut bench, 0, 0, 0, room)).len(), usize::from(room));
    }
}

#[test]
fn task_management_functions_are_listed() {
    let mut bench = bench();
    assert_eq!(data(&bench.run(1, &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0], &[])), [0xda, 0, 0, 0]);
    assert_eq!(data(&bench.run(1, &[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 99, 0, 0], &[])).len(), 16);
    refused(&bench.run(1, &[0xa3, 0x1f, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0], &[]), INVALID_FIELD);
}

#[test]
fn port_groups_tell_and_enforce_their_state() {
    let groups = |state| {
        vec![
            PortGroup { group: 5, state, preferred: true, ports: vec![1] },
            PortGroup { group: 6, state: AccessState::ActiveOptimized, preferred: false, ports: vec![2, 3] },
        ]
    };
    let mut config = config();
    config.port_groups = groups(AccessState::ActiveNonOptimized);
    let mut bench = Bench::with(config, info(512, 2048), None);
    let report = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let reply = data(&bench.run(1, &report, &[]));
    assert_eq!(reply[..16], [0, 0, 0, 28, 0x81, 0x8f, 0, 5, 0, 2, 0, 1, 0, 0, 0, 1]);
    let table = [
        (AccessState::ActiveOptimized, None, None),
        (AccessState::Standby, Some((2, 4, 0x0b)), None),
        (AccessState::Unavailable, Some((2, 4, 0x0c)), Some((2, 4, 0x0c))),
        (AccessState::Transitioning, Some((2, 4, 0x0a)), Some((2, 4, 0x0a))),
    ];
    for (state, read, ready) in table {
        bench.unit.set_port_groups(groups(state));
        sense(&bench.run(1, &[0; 6], &[]), 6, 0x2a, 6);
        for (cdb, expected) in [(&read_10(0, 1)[..], read), (&[0; 6], ready)] {
            let response = bench.run(1, cdb, &[]);
            expected.map_or_else(|| good(&response), |expected| refused(&response, expected));
        }
        good(&bench.run(1, &[0x12, 0, 0, 0, 36, 0], &[]));
    }
    // Without groups every port is in one.
    let mut bench = Bench::new(info(512, 2048));
    let reply = data(&bench.run(1, &report, &[]));
    assert_eq!(reply, [0, 0, 0, 12, 0, 0x8f, 0, 1, 0, 2, 0, 1, 0, 0, 0, 1]);
}

#[test]
fn the_rest_answers_truthfully_that_there_is_nothing() {
    let mut bench = bench();
    assert_eq!(data(&bench.run(1, &[0x37, 0, 0x1d, 0, 0, 0, 0, 0, 32, 0], &[])), [0, 0x1d, 0, 0]);
    assert_eq!(data(&bench.run(1, &[0xb7, 0x1d, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], &[])).len(), 8);
    assert_eq!(data(&bench.run(1, &[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 32, 0], &[])), [0, 0, 0, 1, 0]);
    refused(&bench.run(1, &[0x4d, 0, 0x42, 0, 0, 0, 0, 0, 32, 0], &[]), INVALID_FIELD);
    good(&bench.run(1, &[0x1e, 0, 0, 0, 1, 0], &[]));
    for (action, expected) in [(0x01, true), (0x00, true), (0x04, true), (0x02, false), (0x10, false)] {
        let response = bench.run(1, &[0x1b, 0, 0, 0, action, 0], &[]);
        if expected { good(&response) } else { refused(&response, INVALID_FIELD) }
    }
}
