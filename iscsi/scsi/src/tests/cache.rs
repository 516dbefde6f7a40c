//! Turning the write cache off: flushed first, answered after, and no acknowledgement slips through.

use volume::bdev::{Done, Io, IoStatus, Op};

use super::*;
use crate::command::{Command, NexusId};
use crate::fuzzing::LUNS;
use crate::response::Step;
use crate::{Context, Pending};

fn start(bench: &mut Bench, cdb: &[u8], payload: &[u8]) -> Step {
    let mut data_out = bench.pool.alloc(payload.len()).expect("room");
    data_out.copy_in(0, payload);
    let mut padded = smallvec::SmallVec::from_slice(cdb);
    padded.resize(16, 0);
    let command = Command {
        task: 7,
        nexus: NexusId(1),
        cdb: padded,
        data_out,
        expected_data_transfer_length: payload.len() as u32,
        read: false,
        write: true,
    };
    bench.unit.start(command, &Context { buffers: &bench.pool, luns: &LUNS })
}

#[track_caller]
fn io(step: Step) -> (Io, Pending) {
    match step {
        Step::Io(io, pending) => (io, pending),
        other => panic!("the command wants an I/O, not {other:?}"),
    }
}

/// Ends an I/O that [`io`] gave.
fn resume(bench: &mut Bench, (io, pending): (Io, Pending), status: Option<IoStatus>) -> Step {
    let mut done = bench.disk.execute(io);
    done.status = status.unwrap_or(done.status);
    bench.unit.resume(pending, done, &bench.pool)
}

#[track_caller]
fn answered(step: Step) -> Response {
    match step {
        Step::Respond(response) => response,
        other => panic!("the command has its answer, not {other:?}"),
    }
}

fn caching_page(bench: &mut Bench) -> Vec<u8> {
    data(&bench.run(2, &[0x1a, 0x08, 8, 0, 255, 0], &[]))[4..].to_vec()
}

fn select(bench: &mut Bench, write_cache: bool) -> Step {
    let mut page = caching_page(bench);
    page[2] = u8::from(write_cache) << 2;
    let list = [&[0, 0, 0, 0], &page[..]].concat();
    start(bench, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)
}

#[test]
fn the_answer_comes_after_the_flush() {
    let mut bench = bench();
    let flush = io(select(&mut bench, false));
    assert_eq!(flush.0.op, Op::Flush);
    assert_eq!(caching_page(&mut bench)[2], 4, "not before it is true");
    let response = answered(resume(&mut bench, flush, None));
    assert_eq!((response.status, response.data_out_len), (Status::Good, 24));
    sense(&bench.run(2, &[0; 6], &[]), 6, 0x2a, 1);
    assert_eq!(caching_page(&mut bench)[2], 0);
    good(&answered(select(&mut bench, true)));
    assert_eq!(data(&bench.run(1, &[0x1a, 0x08, 8, 0, 255, 0], &[]))[4 + 2], 4, "on again needs no flush");
}

#[test]
fn a_failed_flush_leaves_the_cache_as_it_is_reported() {
    let mut bench = bench();
    let flush = io(select(&mut bench, false));
    let response = answered(resume(&mut bench, flush, Some(IoStatus::WriteError { lba: 3 })));
    sense(&response, 3, 0x0c, 0);
    good(&bench.run(2, &[0; 6], &[]));
    assert_eq!(caching_page(&mut bench)[2], 4);
}

#[test]
fn a_write_that_ends_while_the_cache_goes_off_is_flushed_before_it_is_answered() {
    let mut bench = bench();
    let early = io(start(&mut bench, &write_10(0, 1), &[1; 512]));
    assert!(matches!(early.0.op, Op::Write { fua: false, .. }));
    let flush = io(select(&mut bench, false));
    // From here on writes go through.
    assert!(matches!(io(start(&mut bench, &write_10(1, 1), &[1; 512])).0.op, Op::Write { fua: true, .. }));
    let follow_up = io(resume(&mut bench, early, None));
    assert_eq!((follow_up.0.op, follow_up.0.tag), (Op::Flush, 7));
    good(&answered(resume(&mut bench, flush, None)));
    let failed = answered(resume(&mut bench, follow_up, Some(IoStatus::WriteError { lba: 0 })));
    sense(&failed, 3, 0x0c, 0);
}

#[test]
fn a_command_of_many_steps_is_flushed_at_its_end() {
    let mut bench = Bench::new(info(512, 16384));
    let mut step = io(start(&mut bench, &long(0x93, 0, 0, 4096), &[1; 512]));
    good(&answered({
        let flush = io(select(&mut bench, false));
        resume(&mut bench, flush, None)
    }));
    while step.0.op != Op::Flush {
        assert!(matches!(step.0.op, Op::Write { fua: false, .. }));
        step = io(resume(&mut bench, step, None));
    }
    good(&answered(resume(&mut bench, step, None)));
}

#[test]
fn the_flush_is_repeated_when_something_was_acknowledged_out_of_the_cache_meanwhile() {
    let mut bench = bench();
    let early = io(start(&mut bench, &write_10(0, 1), &[1; 512]));
    let off = io(select(&mut bench, false));
    // Another initiator changes another bit: the cache is on, and writes may stay in it again.
    let mut control = data(&bench.run(2, &[0x1a, 0x08, 10, 0, 255, 0], &[]))[4..].to_vec();
    control[2] |= 0x04;
    let list = [&[0, 0, 0, 0], &control[..]].concat();
    good(&bench.run(2, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list));
    good(&answered(resume(&mut bench, early, None)));
    let again = io(resume(&mut bench, off, None));
    assert_eq!(again.0.op, Op::Flush);
    good(&answered(resume(&mut bench, again, None)));
    // The bit that the other one changed is still changed.
    sense_72(&bench.run(2, &[0; 6], &[]));
    assert_eq!(caching_page(&mut bench)[2], 0);
}

/// A unit attention in descriptor format.
fn sense_72(response: &Response) {
    assert_eq!(response.sense[..4], [0x72, 6, 0x2a, 1]);
}

#[test]
fn a_device_without_a_cache_has_nothing_to_flush() {
    let mut safe = info(512, 2048);
    safe.volatile_write_cache = false;
    let mut bench = Bench::new(safe);
    let (io, pending) = io(start(&mut bench, &write_10(0, 1), &[1; 512]));
    let Done { tag, status, sgl } = bench.disk.execute(io);
    good(&answered(bench.unit.resume(pending, Done { tag, status, sgl }, &bench.pool)));
}
