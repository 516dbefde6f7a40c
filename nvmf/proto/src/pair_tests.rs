//! A target queue against a host queue, with any cuts, any memory and any agreement between them.

use std::io::IoSlice;

use nvme_spec::{Cqe, Sqe, Status};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use zerocopy::little_endian::U32;

use crate::testing::{Chunks, TestAdmission, pattern};
use crate::{Event, HostConfig, HostData, HostEvent, HostQueue, QueueParams, TargetConfig, TargetQueue};

#[derive(Clone, Copy, Debug)]
enum Op {
    Nothing,
    Write { length: usize, seed: u8 },
    Read { length: usize, seed: u8, fails: bool },
}

const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const POOL_BYTES: usize = 48 * 1024;

/// Takes up to `at_most` bytes from what one end wants to send.
macro_rules! take {
    ($queue:expr, $at_most:expr) => {{
        let mut out = [IoSlice::new(&[]); 5];
        let filled = $queue.tx_chunks(&mut out);
        let bytes: Vec<u8> =
            out[..filled].iter().flat_map(|slice| slice.iter().copied()).take($at_most).collect();
        $queue.tx_advance(bytes.len());
        bytes
    }};
}

struct Pair {
    target: TargetQueue<Chunks>,
    admission: TestAdmission,
    host: HostQueue<Chunks>,
    /// Bytes on the way to the target that it did not take yet.
    unread: Vec<u8>,
    /// What each command in flight is, by slot.
    ops: Vec<Option<Op>>,
    is_initialized: bool,
    completed: usize,
}

impl Pair {
    fn new(host: HostConfig, target: TargetConfig) -> Self {
        let mut admission = TestAdmission::default();
        admission.chunk_bytes = 700;
        admission.reserve_bytes = 8192;
        admission.set_budget(POOL_BYTES);
        Self {
            ops: vec![None; usize::from(host.commands_max)],
            target: TargetQueue::new(target),
            admission,
            host: HostQueue::new(host),
            unread: Vec::new(),
            is_initialized: false,
            completed: 0,
        }
    }

    fn submit(&mut self, op: Op) {
        let (opcode, data, length, seed) = match op {
            Op::Nothing => (0, HostData::None, 0, 0),
            Op::Write { length, seed } => {
                (WRITE, HostData::Write(Chunks::of(&pattern(length, seed), 333)), length, seed)
            }
            Op::Read { length, seed, .. } => (READ, HostData::Read(Chunks::blank(length, 333)), length, seed),
        };
        let fails = matches!(op, Op::Read { fails: true, .. });
        let sqe = Sqe {
            opcode,
            cdw10: U32::new(u32::from(seed)),
            cdw11: U32::new(length as u32),
            cdw12: U32::new(u32::from(fails)),
            ..Sqe::default()
        };
        let cid = self.host.submit(sqe, data).expect("the caller saw room");
        let before = self.ops[HostQueue::<Chunks>::slot_of(cid)].replace(op);
        assert!(before.is_none(), "a slot has one command");
    }

    /// Moves up to `step` bytes from the host to the target.
    fn move_to_target(&mut self, step: usize, in_place: bool) {
        self.unread.extend(take!(self.host, step));
        let mut taken = 0;
        if in_place && let Some(room) = self.target.wanted() {
            taken = room.len().min(self.unread.len());
            room[..taken].copy_from_slice(&self.unread[..taken]);
            self.target.received(taken);
        }
        let rest = &self.unread[taken..];
        let consumed = self.target.handle_bytes(rest, &mut self.admission).expect("the host is sound");
        assert!(consumed == rest.len() || self.target.blocked().is_some());
        self.unread.drain(..taken + consumed);
    }

    /// Moves up to `step` bytes from the target to the host.
    fn move_to_host(&mut self, step: usize, in_place: bool) {
        let bytes = take!(self.target, step);
        let mut taken = 0;
        if in_place && let Some(room) = self.host.wanted() {
            taken = room.len().min(bytes.len());
            room[..taken].copy_from_slice(&bytes[..taken]);
            self.host.received(taken);
        }
        self.host.handle_bytes(&bytes[taken..]).expect("the target is sound");
    }

    fn execute(&mut self, sq_flow_control: bool) {
        self.target.retry(&mut self.admission);
        while let Some(event) = self.target.next_event() {
            let command = match event {
                Event::Initialized(_) => {
                    let in_capsule_bytes = 8192;
                    self.target.connected(QueueParams { entries: 64, in_capsule_bytes, sq_flow_control });
                    continue;
                }
                Event::Command(command) => command,
                Event::Close(cause) => panic!("{cause:?}"),
            };
            let sqe = &command.sqe;
            let (seed, length) = (sqe.cdw10.get() as u8, sqe.cdw11.get() as usize);
            let done = Cqe::new(0, command.fault.unwrap_or(Status::SUCCESS));
            let answered = match sqe.opcode {
                WRITE => {
                    assert_eq!(command.data.expect("it brings data").bytes(), pattern(length, seed));
                    self.target.complete(command.id, done)
                }
                READ if sqe.cdw12.get() != 0 => {
                    let data = Chunks::of(&pattern(length / 2, seed), 450);
                    self.target.complete_read(command.id, Cqe::new(0, Status::INTERNAL_ERROR), data)
                }
                READ => self.target.complete_read(command.id, done, Chunks::of(&pattern(length, seed), 450)),
                _ => self.target.complete(command.id, done),
            };
            assert!(answered);
        }
    }

    fn collect(&mut self) {
        while let Some(event) = self.host.next_event() {
            let completion = match event {
                HostEvent::Initialized(_) => {
                    self.is_initialized = true;
                    continue;
                }
                HostEvent::Completed(completion) => completion,
                HostEvent::Close(cause) => panic!("{cause:?}"),
            };
            let op = self.ops[HostQueue::<Chunks>::slot_of(completion.cid)].take().expect("it was in flight");
            self.completed += 1;
            let status = completion.cqe.status();
            match op {
                Op::Read { fails: true, .. } => assert_eq!(status, Status::INTERNAL_ERROR),
                Op::Read { length, seed, .. } => {
                    assert!(status.is_success());
                    assert_eq!(completion.data.expect("it comes back").bytes(), pattern(length, seed));
                }
                Op::Write { .. } | Op::Nothing => assert!(status.is_success()),
            }
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let length = prop_oneof![1usize..600, Just(4096usize), 1usize..20_000];
    prop_oneof![
        1 => Just(Op::Nothing),
        3 => (length.clone(), any::<u8>()).prop_map(|(length, seed)| Op::Write { length, seed }),
        3 => (length, any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(length, seed, fails)| Op::Read { length, seed, fails }),
    ]
}

fn configs() -> impl Strategy<Value = (HostConfig, TargetConfig)> {
    let host = (any::<bool>(), any::<bool>(), 0..32u8, 1..5u32, 0..9000u32);
    let target = (any::<bool>(), 0..32u8, 1..6u32, 1..9u32, 1..9u32, 1..5u8);
    (host, target).prop_map(|(host, target)| {
        let (header_digest, data_digest, hpda, r2ts_max, in_capsule_bytes) = host;
        // What the target takes for sure.
        let in_capsule_bytes = in_capsule_bytes.min(8192);
        let host =
            HostConfig { header_digest, data_digest, hpda, r2ts_max, commands_max: 32, in_capsule_bytes };
        let (header_digest, cpda, h2c, c2h, r2t, r2ts_max) = target;
        let target = TargetConfig {
            header_digest,
            data_digest: true,
            cpda,
            h2c_data_bytes_max: h2c * 4096,
            c2h_data_bytes_max: c2h * 1000,
            r2t_bytes_max: r2t * 1500,
            r2ts_max,
            tx_backlog_bytes: 30_000,
        };
        (host, target)
    })
}

/// The same cases at every run.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_command_is_done_and_every_byte_arrives(
        (host, target) in configs(),
        ops in prop::collection::vec(op(), 1..80),
        steps in prop::collection::vec((1usize..9000, any::<bool>()), 1..40),
        sq_flow_control in any::<bool>(),
    ) {
        let mut pair = Pair::new(host, target);
        let mut waiting = ops.iter().copied();
        let mut next = waiting.next();
        let mut steps = steps.into_iter().cycle();
        for turn in 0.. {
            assert!(turn < 200_000, "nothing moves: {} of {}", pair.completed, ops.len());
            while pair.is_initialized && pair.host.can_submit() && let Some(op) = next {
                pair.submit(op);
                next = waiting.next();
            }
            let (step, in_place) = steps.next().expect("it cycles");
            match turn % 3 {
                0 => pair.move_to_target(step, in_place),
                1 => pair.execute(sq_flow_control),
                _ => pair.move_to_host(step, in_place),
            }
            pair.collect();
            if pair.completed == ops.len() {
                break;
            }
        }
        assert_eq!((pair.host.in_flight(), pair.target.command_count()), (0, 0));
        assert_eq!(pair.admission.budget_bytes(), POOL_BYTES, "all memory came back");
        assert!(pair.unread.is_empty() && !pair.target.wants_memory());
    }
}
