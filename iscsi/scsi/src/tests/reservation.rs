//! PERSISTENT RESERVE and RESERVE(6): conflicts per command, preempting, restart, full table
//! (reliability rows G11 and 69, and the registrant overflow of another target).

use super::*;
use crate::fuzzing::{config, name};
use crate::{Effects, NexusId, path_of};
use volume::reservation::limits::REGISTRANTS_MAX;
use volume::reservation::{Change, Kind, Path};

const EXCLUSIVE: u8 = 3;
const ALL_REGISTRANTS: u8 = 7;

fn out(bench: &mut Bench, nexus: u32, action: u8, kind: u8, key: u64, new_key: u64, flags: u8) -> Response {
    let mut list = [key.to_be_bytes(), new_key.to_be_bytes(), [0; 8]].concat();
    list[20] = flags;
    bench.run(nexus, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list)
}

fn register(bench: &mut Bench, nexus: u32, key: u64) {
    good(&out(bench, nexus, 6, 0, 0, key, 1));
}

fn reserve_in(bench: &mut Bench, action: u8) -> Vec<u8> {
    data(&bench.run(1, &[0x5e, action, 0, 0, 0, 0, 0, 255, 255, 0], &[]))
}

/// Every command with its CDB and data, and whether it passes when only reading, or not even
/// reading, is allowed.
fn commands() -> Vec<(Vec<u8>, Vec<u8>, bool, bool)> {
    let block = vec![0; 512];
    let (read, write, free) = ((true, false), (false, false), (true, true));
    let list = |cdb: &[u8], payload: &[u8], (reader, stranger): (bool, bool)| {
        (cdb.to_vec(), payload.to_vec(), reader, stranger)
    };
    vec![
        list(&[0; 6], &[], free),
        list(&[0x12, 0, 0, 0, 36, 0], &[], free),
        list(&[0x03, 0, 0, 0, 18, 0], &[], free),
        list(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], &[], free),
        list(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], free),
        list(&long(0x9e, 0x10, 0, 32), &[], free),
        list(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[], free),
        list(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[], free),
        list(&[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], &[], free),
        list(&[0x1b, 0, 0, 0, 1, 0], &[], free),
        list(&[0x1e, 0, 0, 0, 0, 0], &[], free),
        list(&[0x08, 0, 0, 0, 1, 0], &[], read),
        list(&read_10(0, 1), &[], read),
        list(&long(0x88, 0, 0, 1), &[], read),
        list(&[0x2f, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[], read),
        list(&[0x34, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[], read),
        list(&long(0x9e, 0x12, 0, 24), &[], read),
        list(&write_10(0, 1), &block, write),
        list(&long(0x8a, 0, 0, 1), &block, write),
        list(&long(0x8b, 0, 0, 1), &block, write),
        list(&long(0x8e, 0, 0, 1), &block, write),
        list(&long(0x93, 0, 0, 1), &block, write),
        list(&[0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], write),
        list(&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &[0; 1024], write),
        list(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], write),
        list(&[0x1a, 0, 0x3f, 0, 255, 0], &[], write),
        list(&[0x15, 0x10, 0, 0, 0, 0], &[], write),
        list(&[0x1b, 0, 0, 0, 0, 0], &[], write),
        list(&[0x1e, 0, 0, 0, 1, 0], &[], write),
    ]
}

#[test]
fn each_command_conflicts_as_the_table_says() {
    for kind in [1, 3, 5, 6, 7, 8] {
        let mut bench = bench();
        bench.attach(3);
        for nexus in [1, 2] {
            register(&mut bench, nexus, u64::from(nexus));
        }
        good(&out(&mut bench, 1, 1, kind, 1, 0, 0));
        for (cdb, payload, reader, stranger) in commands() {
            let writes_exclude_only = matches!(kind, 1 | 5 | 7);
            let outsider = if writes_exclude_only { reader } else { stranger };
            let registrant = kind > 3 || outsider;
            for (nexus, allowed) in [(1, true), (2, registrant), (3, outsider)] {
                let response = bench.run(nexus, &cdb, &payload);
                let expected = if allowed { Status::Good } else { Status::ReservationConflict };
                assert_eq!(response.status, expected, "type {kind}, nexus {nexus}, {cdb:02x?}");
            }
        }
    }
}

#[test]
fn registering_reserving_and_reading_back() {
    let mut bench = bench();
    register(&mut bench, 1, 0xabcd);
    assert_eq!(reserve_in(&mut bench, 0), [0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0xab, 0xcd]);
    assert_eq!(reserve_in(&mut bench, 1), [0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(out(&mut bench, 1, 0, 0, 0xabce, 7, 1).status, Status::ReservationConflict);
    good(&out(&mut bench, 1, 1, EXCLUSIVE, 0xabcd, 0, 0));
    assert_eq!(
        reserve_in(&mut bench, 1)[4..],
        [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0xab, 0xcd, 0, 0, 0, 0, 0, 3, 0, 0]
    );
    assert_eq!(reserve_in(&mut bench, 2), [0, 8, 0x11, 0x81, 0xea, 1, 0, 0]);
    let full = reserve_in(&mut bench, 3);
    assert_eq!((full[8 + 12], full[8 + 13], full[8 + 19]), (1, 3, 1));
    assert!(full[32..].starts_with(&[0x45, 0]));
    assert!(full[36..].starts_with(b"iqn.2026-01.io.vega:host-1,i,0x800000000001\0"));
    assert_eq!(u32::from_be_bytes([full[4], full[5], full[6], full[7]]) as usize, full.len() - 8);
    for action in 4..32 {
        refused(&bench.run(1, &[0x5e, action, 0, 0, 0, 0, 0, 0, 64, 0], &[]), INVALID_FIELD);
    }
    // The header of a cut list still says how long the list is.
    assert_eq!(data(&bench.run(1, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[])), [0, 0, 0, 1, 0, 0, 0, 8]);
    sense(&out(&mut bench, 1, 2, 1, 0xabcd, 0, 0), 5, 0x26, 4);
    good(&out(&mut bench, 1, 2, EXCLUSIVE, 0xabcd, 0, 0));
    assert_eq!(reserve_in(&mut bench, 1)[4..], [0; 4]);
}

#[test]
fn wrong_parameters_are_refused_and_change_nothing() {
    let mut bench = bench();
    register(&mut bench, 1, 1);
    for length in [0, 1, 23, 25, 4096] {
        let cdb = [0x5f, 1, 3, 0, 0, 0, 0, (length >> 8) as u8, length as u8, 0];
        sense(&bench.run_expecting(1, &cdb, &vec![0; length], length as u32, false), 5, 0x1a, 0);
    }
    sense(&bench.run(1, &[0x5f, 1, 3, 0, 0, 255, 255, 255, 255, 0], &[0; 64]), 5, 0x1a, 0);
    sense(&bench.run_expecting(1, &[0x5f, 1, 3, 0, 0, 0, 0, 0, 24, 0], &[0; 8], 8, false), 5, 0x1a, 0);
    for kind in [0, 2, 4, 9, 15, 0x13] {
        refused(&out(&mut bench, 1, 1, kind, 1, 0, 0), INVALID_FIELD);
    }
    for action in 8..32 {
        refused(&out(&mut bench, 1, action, 3, 1, 0, 0), INVALID_FIELD);
    }
    for flags in [0x08, 0x04] {
        sense(&out(&mut bench, 1, 0, 0, 1, 2, flags), 5, 0x26, 0);
    }
    assert_eq!(reserve_in(&mut bench, 0)[..8], [0, 0, 0, 1, 0, 0, 0, 8]);
}

#[test]
fn preempt_and_abort_names_its_victims_before_it_answers() {
    let mut bench = bench();
    bench.attach(3);
    for nexus in 1..=3 {
        register(&mut bench, nexus, u64::from(nexus));
    }
    good(&out(&mut bench, 1, 1, EXCLUSIVE, 1, 0, 0));
    let response = out(&mut bench, 2, 5, EXCLUSIVE, 2, 1, 0);
    good(&response);
    let effects = response.effects.expect("tasks of the victim are aborted");
    assert_eq!(*effects, Effects { abort_tasks_of: vec![path_of(&name(1)).unwrap()] });
    sense(&bench.run(1, &[0; 6], &[]), 6, 0x2a, 5);
    assert_eq!(bench.run(1, &read_10(0, 1), &[]).status, Status::ReservationConflict);
    good(&bench.run(2, &read_10(0, 1), &[]));
    good(&bench.run(3, &[0; 6], &[]));
    // Plain PREEMPT aborts nothing; a change of type is told to those who stay.
    let response = out(&mut bench, 3, 4, 5, 3, 2, 0);
    assert!(response.effects.is_none());
    sense(&bench.run(2, &[0; 6], &[]), 6, 0x2a, 5);
}

#[test]
fn clear_and_release_are_heard_once() {
    let mut bench = bench();
    for nexus in [1, 2] {
        register(&mut bench, nexus, u64::from(nexus));
    }
    good(&out(&mut bench, 1, 1, ALL_REGISTRANTS, 1, 0, 0));
    assert_eq!(reserve_in(&mut bench, 1)[8..16], [0; 8], "all hold it: no key is reported");
    good(&out(&mut bench, 1, 2, ALL_REGISTRANTS, 1, 0, 0));
    sense(&bench.run(2, &[0; 6], &[]), 6, 0x2a, 4);
    good(&out(&mut bench, 1, 3, 0, 1, 0, 0));
    sense(&bench.run(2, &[0; 6], &[]), 6, 0x2a, 3);
    good(&bench.run(2, &[0; 6], &[]));
}

#[test]
fn register_and_move_finds_the_other_path() {
    let mut bench = bench();
    register(&mut bench, 1, 1);
    good(&out(&mut bench, 1, 1, EXCLUSIVE, 1, 0, 0));
    let move_to = |bench: &mut Bench, name: &[u8], port: u8| {
        let mut list = [1_u64.to_be_bytes(), 5_u64.to_be_bytes()].concat();
        let id_length = name.len().next_multiple_of(4);
        list.extend_from_slice(&[
            0,
            0x03,
            0,
            port,
            0,
            0,
            0,
            id_length as u8 + 4,
            0x45,
            0,
            0,
            id_length as u8,
        ]);
        list.extend_from_slice(name);
        list.resize(28 + id_length, 0);
        bench.run(1, &[0x5f, 7, 3, 0, 0, 0, 0, 0, list.len() as u8, 0], &list)
    };
    sense(&move_to(&mut bench, b"iqn.2026-01.io.vega:host-2", 1), 5, 0x26, 0);
    sense(&move_to(&mut bench, b"iqn.2026-01.io.vega:host-2,i,0x800000000002", 9), 5, 0x26, 0);
    sense(&move_to(&mut bench, b"iqn.2026-01.io.vega:host-1,i,0x800000000001", 1), 5, 0x26, 0);
    good(&move_to(&mut bench, b"IQN.2026-01.io.vega:HOST-2,i,0x800000000002", 1));
    assert_eq!(bench.run(1, &read_10(0, 1), &[]).status, Status::ReservationConflict);
    good(&bench.run(2, &read_10(0, 1), &[]));
}

#[test]
fn a_restart_keeps_what_was_to_be_kept_and_nothing_else() {
    // Reliability row 69.
    let mut bench = bench();
    register(&mut bench, 1, 1);
    good(&out(&mut bench, 1, 1, EXCLUSIVE, 1, 0, 0));
    let mut after = Bench::with(config(), info(512, 2048), bench.durable.clone());
    assert_eq!(after.run(2, &read_10(0, 1), &[]).status, Status::ReservationConflict);
    good(&after.run(1, &read_10(0, 1), &[]));
    // Registering again without APTPL: after the next restart there is nothing.
    good(&out(&mut after, 1, 0, 0, 1, 1, 0));
    let mut later = Bench::with(config(), info(512, 2048), after.durable.clone());
    good(&later.run(2, &read_10(0, 1), &[]));
    assert_eq!(reserve_in(&mut later, 0), [0; 8]);
}

#[test]
fn what_cannot_be_made_durable_does_not_happen() {
    let mut bench = bench();
    register(&mut bench, 1, 1);
    bench.store_works = false;
    sense(&out(&mut bench, 1, 1, EXCLUSIVE, 1, 0, 0), 4, 0x44, 0);
    good(&bench.run(2, &read_10(0, 1), &[]));
    bench.store_works = true;
    good(&out(&mut bench, 1, 1, EXCLUSIVE, 1, 0, 0));
    assert_eq!(bench.run(2, &read_10(0, 1), &[]).status, Status::ReservationConflict);
}

#[test]
fn the_table_of_registrants_has_an_end() {
    let mut bench = bench();
    let last = REGISTRANTS_MAX as u32;
    for nexus in 3..=last + 1 {
        bench.attach(nexus);
    }
    for nexus in 1..=last {
        register(&mut bench, nexus, u64::from(nexus));
    }
    sense(&out(&mut bench, last + 1, 6, 0, 0, 1, 1), 5, 0x55, 4);
    let after = Bench::with(config(), info(512, 2048), bench.durable.clone());
    assert_eq!(after.reservations.read().registrants().len(), REGISTRANTS_MAX);
    let full = reserve_in(&mut bench, 3);
    assert_eq!(u32::from_be_bytes([full[4], full[5], full[6], full[7]]) as usize, full.len() - 8);
}

#[test]
fn the_old_reservation_keeps_others_out_until_it_goes() {
    let (reserve, release) = ([0x16, 0, 0, 0, 0, 0], [0x17, 0, 0, 0, 0, 0]);
    let mode_sense = [0x1a, 0, 0x3f, 0, 255, 0];
    let mut bench = bench();
    for _ in 0..2 {
        good(&bench.run(1, &reserve, &[]));
    }
    for cdb in [&reserve[..], &mode_sense, &read_10(0, 1), &[0; 6]] {
        assert_eq!(bench.run(2, cdb, &[]).status, Status::ReservationConflict);
    }
    assert_eq!(out(&mut bench, 2, 6, 0, 0, 1, 0).status, Status::ReservationConflict);
    good(&bench.run(2, &release, &[]));
    good(&bench.run(2, &[0x12, 0, 0, 0, 36, 0], &[]));
    assert_eq!(bench.run(2, &mode_sense, &[]).status, Status::ReservationConflict);
    good(&bench.run(1, &mode_sense, &[]));
    good(&bench.run(1, &release, &[]));
    good(&bench.run(2, &reserve, &[]));
    bench.unit.detach(NexusId(2));
    good(&bench.run(1, &reserve, &[]));
    bench.unit.reset(None);
    bench.attach(2);
    good(&bench.run(2, &reserve, &[]));
    refused(&bench.run(2, &[0x16, 0x10, 0, 0, 0, 0], &[]), INVALID_FIELD);
}

#[test]
fn beside_persistent_reservations_the_old_one_does_nothing() {
    let reserve = [0x16, 0, 0, 0, 0, 0];
    let mut bench = bench();
    register(&mut bench, 1, 1);
    assert_eq!(bench.run(1, &reserve, &[]).status, Status::ReservationConflict);
    good(&out(&mut bench, 1, 1, EXCLUSIVE, 1, 0, 0));
    good(&bench.run(1, &reserve, &[]));
    assert_eq!(bench.run(2, &reserve, &[]).status, Status::ReservationConflict);
    good(&out(&mut bench, 1, 3, 0, 1, 0, 0));
    good(&bench.run(2, &read_10(0, 1), &[]));
}

#[test]
fn a_change_through_another_protocol_is_obeyed_by_the_next_command() {
    let mut bench = bench();
    register(&mut bench, 1, 1);
    good(&out(&mut bench, 1, 1, EXCLUSIVE, 1, 0, 0));
    good(&bench.run(1, &read_10(0, 1), &[]));
    let host = Path::of_host([0xab; 16]);
    let change = |bench: &mut Bench, change: Change| {
        let (next, outcome) = bench.reservations.read().apply(&host, &change).unwrap();
        bench.reservations.replace(next);
        outcome
    };
    change(&mut bench, Change::RegisterHost { new_key: 9, survives_power_loss: None });
    let kind = Kind::ExclusiveAccess;
    let outcome = change(&mut bench, Change::Preempt { key: 9, victim_key: 1, kind, abort: true });
    // Fenced before anybody was told.
    assert_eq!(bench.run(1, &read_10(0, 1), &[]).status, Status::ReservationConflict);
    bench.unit.reservations_changed_elsewhere(&outcome);
    sense(&bench.run(1, &[0; 6], &[]), 6, 0x2a, 5);
    assert_eq!(outcome.abort_tasks_of, [path_of(&name(1)).unwrap()]);
    // The host is shown by the name that its identifier makes, for all ports.
    let full = reserve_in(&mut bench, 3);
    assert_eq!((full[8 + 12], full[8 + 13], &full[8 + 18..8 + 20]), (3, EXCLUSIVE, &[0, 0][..]));
    let id = b"nqn.2014-08.org.nvmexpress:uuid:abababab-abab-abab-abab-abababababab,i,0x000000000000\0";
    assert!(full[36..].starts_with(id));
}

#[test]
fn the_old_reservation_keeps_other_protocols_out() {
    let mut bench = bench();
    let host = Path::of_host([1; 16]);
    good(&bench.run(1, &[0x16, 0, 0, 0, 0, 0], &[]));
    assert!(!bench.reservations.access(&host).read);
    good(&bench.run(1, &read_10(0, 1), &[]));
    good(&bench.run(1, &[0x17, 0, 0, 0, 0, 0], &[]));
    assert!(bench.reservations.access(&host).write);
    good(&bench.run(2, &[0x16, 0, 0, 0, 0, 0], &[]));
    bench.unit.detach(NexusId(2));
    assert!(bench.reservations.access(&host).write);
}
