//! Unit attentions: who hears of what, once, and which commands do not care (reliability row 70).

use super::*;
use crate::{NexusId, UnitAttention};

const READY: [u8; 6] = [0; 6];

#[test]
fn a_grown_device_is_announced_to_everybody_once() {
    let mut bench = bench();
    bench.unit.capacity_changed(info(512, 4096));
    bench.disk = crate::fuzzing::Disk::new(info(512, 4096));
    for nexus in [1, 2] {
        sense(&bench.run(nexus, &READY, &[]), 6, 0x2a, 9);
        good(&bench.run(nexus, &READY, &[]));
    }
    good(&bench.run(1, &read_10(4095, 1), &[]));
}

#[test]
fn inquiry_report_luns_and_request_sense_come_first() {
    let mut bench = bench();
    bench.unit.queue_unit_attention_all(UnitAttention::ReportedLunsChanged, None);
    bench.unit.queue_unit_attention_all(UnitAttention::InquiryDataChanged, None);
    good(&bench.run(1, &[0x12, 0, 0, 0, 36, 0], &[]));
    good(&bench.run(1, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0], &[]));
    // Whoever has read the list of LUNs knows that it has changed.
    sense(&bench.run(1, &READY, &[]), 6, 0x3f, 3);
    good(&bench.run(1, &READY, &[]));
    // REQUEST SENSE hands the condition over.
    let reply = data(&bench.run(2, &[3, 0, 0, 0, 18, 0], &[]));
    assert_eq!((reply[2], reply[12], reply[13]), (6, 0x3f, 3));
    sense(&bench.run(2, &READY, &[]), 6, 0x3f, 0x0e);
    assert_eq!(data(&bench.run(2, &[3, 0, 0, 0, 18, 0], &[]))[2], 0);
}

#[test]
fn an_unknown_command_does_not_use_up_the_condition() {
    let mut bench = bench();
    bench.unit.queue_unit_attention(NexusId(1), UnitAttention::CommandsCleared);
    sense(&bench.run(1, &[0xff; 16], &[]), 5, 0x20, 0);
    sense(&bench.run(1, &write_10(0, 1), &[1; 512]), 6, 0x2f, 0);
    assert!(bench.disk.log.is_empty(), "a command that reports a condition does nothing");
    good(&bench.run(2, &READY, &[]));
}

#[test]
fn a_reset_is_heard_on_every_path() {
    let mut bench = bench();
    bench.unit.reset(Some(NexusId(1)));
    for nexus in [1, 2] {
        sense(&bench.run(nexus, &READY, &[]), 6, 0x29, 3);
    }
}

#[test]
fn conditions_of_a_nexus_die_with_it() {
    let mut bench = bench();
    bench.unit.queue_unit_attention(NexusId(2), UnitAttention::CapacityChanged);
    bench.unit.detach(NexusId(2));
    bench.attach(2);
    good(&bench.run(2, &READY, &[]));
    bench.unit.queue_unit_attention(NexusId(77), UnitAttention::CapacityChanged);
}

#[test]
fn naca_is_refused_where_the_control_byte_is() {
    let mut bench = bench();
    for (cdb, byte) in [(vec![0, 0, 0, 0, 0, 4], 5), ([&read_10(0, 1)[..9], &[4]].concat(), 9)] {
        let response = bench.run(1, &cdb, &[]);
        refused(&response, INVALID_FIELD);
        assert_eq!(response.sense[15..18], [0xca, 0, byte]);
    }
    let mut cdb = long(0x88, 0, 0, 1);
    cdb[15] = 4;
    refused(&bench.run(1, &cdb, &[]), INVALID_FIELD);
}

#[test]
fn who_has_logged_out_holds_nothing_any_more() {
    let mut bench = bench();
    good(&bench.run(2, &[0x16, 0, 0, 0, 0, 0], &[]));
    assert_eq!(bench.run(1, &[0; 6], &[]).status, Status::ReservationConflict);
    bench.unit.release(crate::NexusId(1));
    assert_eq!(bench.run(1, &[0; 6], &[]).status, Status::ReservationConflict, "it was not the holder");
    bench.unit.release(crate::NexusId(2));
    good(&bench.run(1, &[0; 6], &[]));
}
