//! What a driver of this machine's controllers refuses, over an emulated one, on a clock that is turned by hand.

use std::time::Duration;

use nvme_emulated::{EmulatedController, EmulatedDevice};
use reactor::time::Time;

use super::*;
use crate::driver::{Driver, Kind, Maintenance, Payload, Request};
use crate::local::driver::LocalDriver;

const BLOCK_BYTES: u32 = 512;
const BYTES: u64 = 8 << 20;
const BLOCKS: u64 = BYTES / BLOCK_BYTES as u64;
const SERIAL: &str = "VEGA0000000000000001";

fn target() -> LocalTarget {
    let plan = Plan {
        read_percent: 0,
        depth: 4,
        queues: 2,
        ..Plan::for_text("nvme-emulated://8MiB?block=512").unwrap()
    };
    LocalTarget::new(&plan, EMULATED_NSID, true)
}

struct Rig {
    driver: LocalDriver<EmulatedDevice>,
    controller: EmulatedController,
    now: Time,
    answers: Vec<crate::driver::Answer<reactor::buffer::Sgl>>,
}

impl Rig {
    fn new(target: LocalTarget, fill: impl FnOnce(&EmulatedController)) -> Self {
        let controller = emulated(BYTES, BLOCK_BYTES).unwrap();
        fill(&controller);
        let now = Time::from_ns(1);
        let driver = LocalDriver::emulated(now, target, controller.clone()).unwrap();
        Self { driver, controller, now, answers: Vec::new() }
    }

    fn turn(&mut self) {
        self.now = self.now.after(Duration::from_millis(1));
        self.driver.poll(self.now, &mut self.answers);
        self.driver.flush(self.now);
    }

    /// Until requests are taken, or not any more.
    fn begin(&mut self) -> Result<(), BenchError> {
        for _ in 0..10_000 {
            self.turn();
            if let Some(error) = self.driver.take_end() {
                return Err(error);
            }
            if self.driver.geometry().is_some() {
                return Ok(());
            }
        }
        panic!("it begins or ends");
    }

    fn answer(&mut self) -> crate::driver::Answer<reactor::buffer::Sgl> {
        for _ in 0..1000 {
            self.turn();
            if let Some(answer) = self.answers.pop() {
                return answer;
            }
        }
        panic!("an answer comes");
    }
}

fn begin(target: LocalTarget, fill: impl FnOnce(&EmulatedController)) -> Result<(), BenchError> {
    Rig::new(target, fill).begin()
}

fn cause(error: BenchError) -> LocalCause {
    match error {
        BenchError::Local { cause, .. } => cause,
        other => panic!("{other}"),
    }
}

#[test]
fn an_empty_namespace_is_taken_and_so_is_one_of_an_earlier_run() {
    begin(target(), |_| {}).unwrap();
    let marked = |controller: &EmulatedController| {
        let mut blocks = vec![0; 4096];
        crate::stamp::fill(&mut blocks, BLOCK_BYTES as usize, &mut crate::places::Sequence::new(1));
        controller.poke(EMULATED_NSID, 0, &blocks);
        controller.poke(EMULATED_NSID, BLOCKS - 8, &blocks);
    };
    begin(target(), marked).unwrap();
}

#[test]
fn what_is_recognised_at_either_end_takes_the_serial_number() {
    let xfs = |controller: &EmulatedController| {
        let mut block = vec![0; 512];
        block[..4].copy_from_slice(b"XFSB");
        controller.poke(EMULATED_NSID, 0, &block);
    };
    let backup = |controller: &EmulatedController| {
        let mut block = vec![0; 512];
        block[..8].copy_from_slice(b"EFI PART");
        controller.poke(EMULATED_NSID, BLOCKS - 1, &block);
    };
    for (fill, word) in [(xfs as fn(&EmulatedController), "XFS"), (backup, "GUID")] {
        // Data of a kind that is not known is another matter than data that is known.
        for overwrite_data in [false, true] {
            let refused = begin(LocalTarget { overwrite_data, ..target() }, fill).unwrap_err().to_string();
            assert!(refused.contains(word) && refused.contains(SERIAL), "{refused}");
        }
        begin(LocalTarget { writes: false, ..target() }, fill).unwrap();
        begin(LocalTarget { confirm_serial: Some(SERIAL.to_owned()), ..target() }, fill).unwrap();
    }
}

#[test]
fn data_of_an_unknown_kind_takes_a_word_and_a_wrong_serial_number_confirms_nothing() {
    let unknown = |controller: &EmulatedController| controller.poke(EMULATED_NSID, BLOCKS - 100, &[7; 512]);
    let refused = begin(target(), unknown).unwrap_err();
    assert!(matches!(refused, BenchError::HoldsData { lba, .. } if lba == BLOCKS - 100), "{refused}");
    begin(LocalTarget { overwrite_data: true, ..target() }, unknown).unwrap();
    for writes in [false, true] {
        let wrong = LocalTarget { confirm_serial: Some("VEGA".to_owned()), writes, ..target() };
        let refused = begin(wrong, |_| {}).unwrap_err();
        assert!(refused.is_usage() && matches!(cause(refused), LocalCause::Serial { .. }));
    }
}

#[test]
fn a_namespace_or_queues_that_are_not_there_are_named() {
    let missing = begin(LocalTarget { nsid: 7, ..target() }, |_| {}).unwrap_err();
    assert!(matches!(missing, BenchError::NoNamespace { nsid: 7, .. }), "{missing}");
    let spoiled = |controller: &EmulatedController| controller.spoil_reads(EMULATED_NSID, 3..4).unwrap();
    let unreadable = begin(target(), spoiled).unwrap_err();
    assert!(matches!(unreadable, BenchError::Unreadable { .. }), "{unreadable}");
}

#[test]
fn requests_longer_than_a_command_come_back_whole() {
    let mut rig = Rig::new(LocalTarget { request_bytes: 2 << 20, buffers: 2, ..target() }, |_| {});
    rig.begin().unwrap();
    assert_eq!(rig.driver.geometry().unwrap().command_bytes_max, 1 << 20);
    let mut data = rig.driver.buffer(2 << 20).unwrap();
    data.runs_mut().for_each(|run| run.fill(9));
    let request = Request { tag: 1, kind: Kind::Write, lba: 8, length_blocks: 4096 };
    rig.driver.submit(rig.now, request, data).unwrap();
    assert_eq!(rig.answer().failure, None);
    assert_eq!(rig.controller.peek(EMULATED_NSID, 7, 1), [0; 512]);
    assert_eq!(rig.controller.peek(EMULATED_NSID, 8 + 4095, 1), [9; 512]);
    assert!(rig.driver.submit_deallocate(rig.now, 0, 8, 4096));
    assert_eq!(rig.answer().failure, None);
    assert!(rig.driver.submit_flush(rig.now, 0));
    assert_eq!(rig.answer().failure, None);
    assert_eq!(rig.controller.peek(EMULATED_NSID, 8, 1), [0; 512]);
}

#[test]
fn a_controller_that_is_pulled_out_ends_the_run_and_a_leave_is_no_failure() {
    let mut rig = Rig::new(target(), |_| {});
    rig.begin().unwrap();
    rig.driver.close(rig.now);
    for _ in 0..100 {
        rig.turn();
    }
    assert!(rig.driver.is_closed() && rig.driver.take_end().is_none());
    let mut rig = Rig::new(target(), |_| {});
    rig.begin().unwrap();
    let data = rig.driver.buffer(4096).unwrap();
    rig.controller.remove();
    let request = Request { tag: 1, kind: Kind::Read, lba: 0, length_blocks: 8 };
    rig.driver.submit(rig.now, request, data).unwrap();
    assert_eq!(rig.answer().failure, Some(crate::driver::Failure::Lost));
    let end = rig.driver.take_end().unwrap();
    assert!(matches!(cause(end), LocalCause::Ended(nvme::End::Removed)));
}

#[test]
fn a_controller_that_is_lost_on_the_way_is_told_at_once() {
    for turns in (1..400).step_by(3) {
        let mut rig = Rig::new(target(), |_| {});
        for _ in 0..turns {
            rig.turn();
        }
        if rig.driver.geometry().is_some() {
            return;
        }
        rig.controller.remove();
        assert!(matches!(cause(rig.begin().unwrap_err()), LocalCause::Ended(nvme::End::Removed)), "{turns}");
        assert!(rig.now < Time::from_ns(10_000_000_000), "{turns}: nobody waited for a timeout");
    }
    panic!("it begins");
}
