//! SANITIZE: what is refused, what runs meanwhile, what a failure leaves, who may leave it.

use volume::bdev::{IoStatus, Op};

use super::*;
use crate::command::{Command, NexusId};
use crate::fuzzing::{Disk, LUNS};
use crate::response::Step;
use crate::{Context, UnitAttention};

const IN_PROGRESS: (u8, u8, u8) = (2, 0x04, 0x1b);
const FAILED: (u8, u8, u8) = (3, 0x31, 0x03);
const IN_PARAMETER_LIST: (u8, u8, u8) = (5, 0x26, 0);

const IMMED: u8 = 0x80;
const AUSE: u8 = 0x20;

fn sanitize(flags_and_action: u8, length: usize) -> [u8; 10] {
    let [high, low] = (length as u16).to_be_bytes();
    [0x48, flags_and_action, 0, 0, 0, 0, 0, high, low, 0]
}

/// An OVERWRITE parameter list.
fn list(first: u8, pattern: &[u8]) -> Vec<u8> {
    let [high, low] = (pattern.len() as u16).to_be_bytes();
    [&[first, 0, high, low], pattern].concat()
}

fn overwrite(bench: &mut Bench, flags: u8, list: &[u8]) -> Response {
    bench.run(1, &sanitize(flags | 0x01, list.len()), list)
}

fn test_unit_ready(bench: &mut Bench) -> Response {
    bench.run(2, &[0; 6], &[])
}

#[test]
fn overwriting_fills_every_block_with_the_pattern() {
    let mut bench = bench();
    good(&bench.run(1, &write_10(2000, 8), &[0xee; 4096]));
    good(&overwrite(&mut bench, 0, &list(1, &[1, 2, 3])));
    let block: Vec<u8> = [1, 2, 3].into_iter().cycle().take(512).collect();
    assert!(bench.disk.bytes.chunks(512).all(|bytes| bytes == block));
    good(&test_unit_ready(&mut bench));
    // The last of two inverted passes is the pattern itself.
    good(&overwrite(&mut bench, 0, &list(0x82, &[0x0f; 512])));
    assert!(bench.disk.bytes.iter().all(|byte| *byte == 0x0f));
    assert!(matches!(bench.disk.log[..], [.., Op::Flush]));
    assert_eq!(bench.pool.in_use(), 0);
}

#[test]
fn erasing_leaves_a_unit_of_zeros_with_nothing_allocated() {
    let mut bench = bench();
    good(&bench.run(1, &write_10(8, 8), &[0xee; 4096]));
    good(&bench.run(1, &sanitize(0x02, 0), &[]));
    assert!(bench.disk.bytes.iter().all(|byte| *byte == 0) && !bench.disk.mapped.contains(&true));
    let written = bench.disk.log.iter().filter(|op| matches!(op, Op::Write { .. })).count();
    assert_eq!(written, 2, "what was allocated is written over, holes are not");

    let mut thick = info(512, 2048);
    thick.thin = false;
    let mut bench = Bench::new(thick);
    refused(&bench.run(1, &sanitize(0x02, 0), &[]), INVALID_FIELD);
    assert_eq!(data(&bench.run(1, &[0x12, 1, 0xb1, 0, 64, 0], &[]))[7], 0, "WABEREQ");
}

#[test]
fn what_is_not_of_the_standard_is_refused_before_anything_happens() {
    let mut bench = bench();
    let whole = list(1, &[0xaa; 512]);
    for action in (0..0x20).filter(|action| ![1, 2, 0x1f].contains(action)) {
        refused(&bench.run(1, &sanitize(action, 0), &[]), INVALID_FIELD);
    }
    for (byte, value) in [(1, 0x41), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)] {
        let mut cdb = sanitize(0x01, whole.len());
        cdb[byte] |= value;
        refused(&bench.run(1, &cdb, &whole), INVALID_FIELD);
    }
    for length in [0, 1, 4, 517, 0xffff] {
        assert_eq!(bench.unit.data_out_length(&sanitize(0x01, length)), 0);
        refused(&bench.run(1, &sanitize(0x01, length), &[0; 8]), INVALID_FIELD);
    }
    for action in [0x02, 0x1f] {
        refused(&bench.run(1, &sanitize(action, 8), &[0; 8]), INVALID_FIELD);
    }
    let mut reserved = list(1, &[0; 512]);
    reserved[1] = 1;
    for wrong in [list(0, &[0; 512]), list(0x21, &[0; 512]), list(0x41, &[0; 512]), reserved] {
        refused(&overwrite(&mut bench, 0, &wrong), IN_PARAMETER_LIST);
    }
    for pattern_bytes in [0_u16, 513] {
        let mut wrong = list(1, &[0; 512]);
        wrong[2..4].copy_from_slice(&pattern_bytes.to_be_bytes());
        refused(&overwrite(&mut bench, 0, &wrong), IN_PARAMETER_LIST);
    }
    let mut cut = list(1, &[0; 8]);
    cut[3] = 9;
    sense(&overwrite(&mut bench, 0, &cut), 5, 0x1a, 0);
    assert!(bench.disk.log.is_empty() && !bench.unit.has_background());
}

#[test]
fn it_goes_on_by_itself_and_says_how_far_it_is() {
    let mut bench = Bench::new(info(512, 8192));
    good(&overwrite(&mut bench, IMMED, &list(1, &[0x55; 4])));
    assert!(bench.unit.has_background());
    assert!(bench.drive_background(1).is_none());
    let response = test_unit_ready(&mut bench);
    refused(&response, IN_PROGRESS);
    assert_eq!(response.sense[15..18], [0x80, 0x40, 0], "one MiB of four");
    // Whatever a host does to its tasks, and whoever else comes, changes nothing.
    bench.unit.reset(Some(NexusId(1)));
    bench.unit.detach(NexusId(1));
    bench.attach_quietly(1);
    sense(&test_unit_ready(&mut bench), 6, 0x29, 3);
    refused(&overwrite(&mut bench, 0, &list(1, &[0; 4])), IN_PROGRESS);
    for cdb in [&read_10(0, 1)[..], &[0x1b, 0, 0, 0, 1, 0], &[0x1a, 0, 8, 0, 255, 0], &[0x16, 0, 0, 0, 0, 0]]
    {
        refused(&bench.run(1, cdb, &[]), IN_PROGRESS);
    }
    refused(&bench.run(1, &write_10(0, 1), &[0; 512]), IN_PROGRESS);
    for cdb in [
        &[0x12, 0, 0, 0, 96, 0][..],
        &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0],
        &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        &[0x4d, 0, 0, 0, 0, 0, 0, 0, 64, 0],
    ] {
        good(&bench.run(1, cdb, &[]));
    }
    assert_eq!(data(&bench.run(1, &[3, 0, 0, 0, 18, 0], &[]))[12..14], [4, 0x1b]);
    assert!(matches!(bench.drive_background(usize::MAX), Some(None)), "nobody waits");
    good(&test_unit_ready(&mut bench));
    assert!(bench.disk.bytes.iter().all(|byte| *byte == 0x55));
}

#[test]
fn write_protection_and_reservations_forbid_it() {
    let mut bench = bench();
    good(&bench.run(2, &[0x16, 0, 0, 0, 0, 0], &[]));
    let whole = list(1, &[0xaa; 512]);
    for (cdb, payload) in [(sanitize(0x01, whole.len()), &whole[..]), (sanitize(0x02, 0), &[])] {
        assert_eq!(bench.run(1, &cdb, payload).status, Status::ReservationConflict);
    }
    good(&bench.run(2, &[0x17, 0, 0, 0, 0, 0], &[]));
    let mut page = data(&bench.run(1, &[0x1a, 0x08, 10, 0, 255, 0], &[]))[4..].to_vec();
    page[4] |= 0x08;
    let select = [&[0, 0, 0, 0], &page[..]].concat();
    good(&bench.run(1, &[0x15, 0x10, 0, 0, select.len() as u8, 0], &select));
    sense(&overwrite(&mut bench, 0, &whole), 7, 0x27, 2);
    assert!(bench.disk.log.is_empty());
}

#[test]
fn a_failure_keeps_the_medium_closed_until_it_is_sanitized_or_left() {
    let mut bench = bench();
    let whole = list(1, &[0xaa; 512]);
    good(&bench.run(1, &sanitize(0x1f, 0), &[]));
    bench.disk.fail_next = Some(IoStatus::WriteError { lba: 7 });
    refused(&overwrite(&mut bench, 0, &whole), FAILED);
    refused(&test_unit_ready(&mut bench), FAILED);
    refused(&bench.run(1, &read_10(0, 1), &[]), FAILED);
    assert_eq!(data(&bench.run(1, &[3, 0, 0, 0, 18, 0], &[]))[12..14], [0x31, 3]);
    // AUSE was 0: there is no way round.
    refused(&bench.run(1, &sanitize(0x1f, 0), &[]), INVALID_FIELD);
    refused(&overwrite(&mut bench, AUSE, &whole), INVALID_FIELD);
    bench.disk.fail_next = Some(IoStatus::NoSpace);
    refused(&overwrite(&mut bench, 0, &whole), FAILED);
    good(&overwrite(&mut bench, 0, &whole));
    good(&test_unit_ready(&mut bench));
    // AUSE was 1: whoever asks may use the medium as it is.
    bench.disk.fail_next = Some(IoStatus::Gone);
    refused(&overwrite(&mut bench, AUSE, &whole), FAILED);
    refused(&test_unit_ready(&mut bench), FAILED);
    good(&bench.run(1, &sanitize(AUSE | 0x1f, 0), &[]));
    good(&test_unit_ready(&mut bench));
}

/// A command that is started by hand, to have another one in its middle.
fn start(bench: &mut Bench, task: u64, cdb: &[u8], payload: &[u8]) -> Step {
    let mut data_out = bench.pool.alloc(payload.len()).expect("room");
    data_out.copy_in(0, payload);
    let mut padded = smallvec::SmallVec::from_slice(cdb);
    padded.resize(16, 0);
    let command = Command {
        task,
        nexus: NexusId(1),
        cdb: padded,
        data_out,
        expected_data_transfer_length: payload.len() as u32,
        read: false,
        write: true,
    };
    bench.unit.start(command, &Context { buffers: &bench.pool, luns: &LUNS })
}

fn io(disk: &mut Disk, step: Step) -> (crate::Pending, volume::bdev::Done) {
    let Step::Io(io, pending) = step else { panic!("the command wants an I/O") };
    (pending, disk.execute(io))
}

#[test]
fn a_command_of_many_steps_does_not_write_behind_it() {
    let mut bench = Bench::new(info(512, 16384));
    let same = long(0x93, 0, 0, 16384);
    let first = start(&mut bench, 7, &same, &[0xee; 512]);
    let (pending, done) = io(&mut bench.disk, first);
    good(&overwrite(&mut bench, IMMED, &list(1, &[0x11; 8])));
    let Step::Respond(response) = bench.unit.resume(pending, done, &bench.pool) else {
        panic!("the rest of the command would follow what is sanitized")
    };
    refused(&response, IN_PROGRESS);
    assert_eq!(response.data_out_len, 512);
    assert!(bench.drive_background(usize::MAX).is_some());
    assert!(bench.disk.bytes.iter().all(|byte| *byte == 0x11));
}

#[test]
fn an_aborted_command_leaves_the_operation_running() {
    let mut bench = bench();
    let whole = list(1, &[0xaa; 512]);
    assert!(matches!(start(&mut bench, 9, &sanitize(0x01, whole.len()), &whole), Step::Background(None)));
    bench.unit.queue_unit_attention_all(UnitAttention::CommandsCleared, None);
    let Some(Some((task, response))) = bench.drive_background(usize::MAX) else { panic!("task 9 waits") };
    assert_eq!((task, response.status, response.data_out_len), (9, Status::Good, whole.len() as u64));
}

#[test]
fn the_commands_are_reported() {
    let mut bench = bench();
    let all = data(&bench.run(1, &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0], &[]));
    let actions: Vec<u8> =
        all[4..].chunks(8).filter(|descriptor| descriptor[0] == 0x48).map(|found| found[3]).collect();
    assert_eq!(actions, [0x01, 0x02, 0x1f]);
    assert_eq!(data(&bench.run(1, &[0x12, 1, 0xb1, 0, 64, 0], &[]))[7], 0x40, "WABEREQ");
}
